"""Every place that roles write to beside our own services, and what becomes of it on the way back.

Runs on the node's own Python (3.10 or later, standard library only), as a part of ``switch``.

A role that writes anywhere else is refused by ``tests/unit/node/patching/test_policy_places.py``, which
reads every task, template, module and variable of the roles.  Network, packet filter and SSH server are in
a list of their own, ``network_state.PATHS``, and so are the files by which our services run,
``saved_version.FILES``.
"""

from __future__ import annotations

#: Ours alone: a file that was not there before goes again.  Patterns, relative to the root.
OWN = (
    "etc/apt/apt.conf.d/99appliance",
    "etc/apt/listchanges.conf.d/appliance.conf",
    "etc/audit/rules.d/90-appliance.rules",
    "etc/cloud/cloud-init.disabled",
    "etc/linuxptp/appliance.conf",
    "etc/modprobe.d/appliance*.conf",
    "etc/needrestart/conf.d/appliance.conf",
    "etc/security/limits.d/90-appliance.conf",
    "etc/sysctl.d/90-appliance-host.conf",
    "etc/systemd/coredump.conf.d/90-appliance.conf",
    "etc/systemd/system.conf.d/90-appliance.conf",
    "etc/systemd/system/tmp.mount",
    "etc/systemd/system/tmp.mount.d/90-appliance.conf",
    "etc/systemd/user/ubuntu-report.path",
    "usr/local/lib/appliance/*.py",
    "usr/local/sbin/appliance-revert",
    "var/lib/appliance/firewall.json",
)
#: A package's too: put back where it was there before, and left where a package has brought it since.
SHARED = (
    "etc/chrony/chrony.conf",
    "etc/cron.d/apticron",
    "etc/cron.d/debsecan",
    "etc/cron.d/dma",
    "etc/default/apport",
    "etc/default/motd-news",
    "etc/issue",
    "etc/issue.net",
    "etc/update-manager/release-upgrades",
)
#: Scripts of packages, of which a role changes whether they may be run, and nothing else.
MODES = ("etc/cron.daily/*", "etc/cron.weekly/*", "etc/update-motd.d/*")
#: Not put back, and why; docs/patch.md says the same to whoever patches.
STAYS = {
    "etc/crypttab": "what runs lies on the volumes that are open now",
    "etc/fstab": "as /etc/crypttab",
    "etc/systemd/system/*.d/50-appliance-disks.conf": "as /etc/crypttab",
    "mnt/appliance/**": "as /etc/crypttab",
    "opt/appliance/**": "programs have a folder for each version; those that nobody runs are removed",
    "srv/appliance": "empty",
    "var/lib/appliance/replaced/**": "what was put aside since goes, once it is in its place again",
    "var/lib/appliance/revert/**": "what the timed revert of the network knows",
    "var/lib/appliance/staged/**": "copies have names of their own for each version",
    "var/log/audit/**": "records",
}
#: Units of packages that roles turn on: where a package has brought one since, it is turned off again.  A
#: role that wants it turns it on by itself the next time, which a package's own script would not.
TURNED_ON = (
    "auditd.service",
    "chrony.service",
    "nvidia-fabricmanager.service",
    "nvidia-persistenced.service",
    "tmp.mount",
)
#: Kernel settings of the role quiet_host, as sysctl(8) spells them.  Those of the network are in
#: ``network_state.SETTINGS``.
KERNEL = (
    "dev.tty.ldisc_autoload",
    "fs.protected_fifos",
    "fs.protected_hardlinks",
    "fs.protected_regular",
    "fs.protected_symlinks",
    "fs.suid_dumpable",
    "kernel.apparmor_restrict_unprivileged_userns",
    "kernel.core_pattern",
    "kernel.dmesg_restrict",
    "kernel.io_uring_disabled",
    "kernel.kexec_load_disabled",
    "kernel.kptr_restrict",
    "kernel.perf_event_paranoid",
    "kernel.randomize_va_space",
    "kernel.sysrq",
    "kernel.unprivileged_bpf_disabled",
    "kernel.unprivileged_userns_clone",
    "kernel.yama.ptrace_scope",
    "net.core.bpf_jit_harden",
    "vm.mmap_min_addr",
    "vm.unprivileged_userfaultfd",
)
