"""A stand-in for the program of Ollama, for tests: reads a store, answers on its documented paths."""

# Stands in for Ollama: reads the store as it does, calls short names by a folder of its own, answers slowly
# where it is asked to.  TEST_ENGINE: "well", "ends" (at once), "refuses" (to load), "more" (models),
# "processor" (no GPU), "partly" (on GPUs), "short" (a model of less context), "forgets" (what it loaded).
STAND_IN = """#!{python} -B
import http.server, json, os, pathlib, shutil, sys, time

store, kind = pathlib.Path(os.environ["OLLAMA_MODELS"]), os.environ.get("TEST_ENGINE", "well")
if "TEST_TOLD" in os.environ:
    pathlib.Path(os.environ["TEST_TOLD"]).write_text(json.dumps([sys.argv[1:], dict(os.environ)]))
if kind == "ends":
    sys.exit(7)
loaded = []

def where(name):
    parts = name.split("/")
    return store.joinpath("manifests", *(parts if len(parts) == 3 else ["own", "library", name]), "latest")

def offered():
    names = [path.parts[-4:] for path in (store / "manifests").glob("*/*/*/*")]
    short = [f"{{model}}:{{tag}}" if host == "own" else f"{{host}}/{{space}}/{{model}}:{{tag}}"
             for host, space, model, tag in names]
    return [*short, *(["other:latest"] if kind == "more" else [])]

class Answer(http.server.BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    def log_message(self, *words):
        pass
    def say(self, status, values):
        text = json.dumps(values).encode()
        self.send_response(status)
        self.send_header("Content-Length", str(len(text)))
        self.end_headers()
        self.wfile.write(text)
    def do_GET(self):
        if self.path.startswith("/slow/"):
            time.sleep(float(self.path[6:]))
        if self.path == "/api/ps":
            there = [] if kind == "forgets" else [{{
                "size": 1000, "size_vram": {{"processor": 0, "partly": 999}}.get(kind, 1000),
                "context_length": 256 if kind == "short" else int(os.environ["OLLAMA_CONTEXT_LENGTH"])}}]
            return self.say(200, {{"models": there}})
        if self.path == "/die":
            os._exit(9)
        self.say(200, {{"data": [{{"id": each}} for each in offered()], "loaded": loaded}})
    def do_POST(self):
        asked = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
        if self.path == "/api/copy":
            target = where(asked["destination"])
            target.parent.mkdir(parents=True)
            shutil.copyfile(where(asked["source"]), target)
            return self.say(200, None)
        if self.path == "/api/create":
            try:
                (store / "blobs/sha256-more").write_text("more")
            except OSError as fault:
                return self.say(500, {{"error": fault.strerror}})
            return self.say(200, None)
        if kind == "refuses":
            return self.say(500, {{"error": "llama runner process has terminated"}})
        manifest = json.loads(where(asked["model"]).read_text())
        blobs = [store / "blobs" / each["digest"].replace(":", "-")
                 for each in (manifest["config"], *manifest["layers"])]
        loaded.extend(path.read_bytes().decode("latin-1") for path in blobs)
        self.say(200, {{"done": True}})

host, _, port = os.environ["OLLAMA_HOST"].partition(":")
http.server.ThreadingHTTPServer((host, int(port)), Answer).serve_forever()
"""
