"""What of a drive is used, from lsblk's tree."""

from __future__ import annotations

from appliance.disk.use import Use, read_use
from tests.unit.disk.drives import top

SWAPS = "Filename\t\tType\t\tSize\tUsed\tPriority\n"

#: Two drives: the root on LVM in an encrypted partition, and a file system on the whole of the other.
TREE = [
    top(
        "nvme0n1",
        pttype="gpt",
        children=[
            top("nvme0n1p1", type="part", fstype="vfat", mountpoints=["/boot/efi"], pttype="gpt"),
            top(
                "nvme0n1p2",
                type="part",
                fstype="crypto_LUKS",
                pttype="gpt",
                children=[
                    top(
                        "sys",
                        path="/dev/mapper/sys",
                        type="crypt",
                        fstype="LVM2_member",
                        children=[
                            top("vg-root", path="/dev/mapper/vg-root", type="lvm", mountpoints=["/"]),
                            top("vg-swap", path="/dev/mapper/vg-swap", type="lvm", mountpoints=["[SWAP]"]),
                        ],
                    )
                ],
            ),
        ],
    ),
    top("nvme1n1", fstype="xfs", mountpoints=["/srv/appliance", "/mnt"]),
]


def test_everything_above_a_drive_is_the_drives() -> None:
    assert read_use("nvme0n1", TREE, SWAPS) == Use(
        mounted=("/", "/boot/efi"),
        root=True,
        swap=("/dev/mapper/vg-swap",),
        partitions=("nvme0n1p1", "nvme0n1p2"),
        holds=("gpt nvme0n1", "vfat nvme0n1p1", "crypto_LUKS nvme0n1p2", "LVM2_member sys"),
    )


def test_a_file_system_on_the_whole_drive() -> None:
    assert read_use("nvme1n1", TREE, SWAPS, ["dm-7"]) == Use(
        mounted=("/mnt", "/srv/appliance"), holders=("dm-7",), holds=("xfs nvme1n1",)
    )


def test_a_swap_file_counts_where_its_file_system_is() -> None:
    deep = SWAPS + "/srv/appliance/swap.img file 1 0 -2\n"
    assert read_use("nvme1n1", TREE, deep).swap == ("/srv/appliance/swap.img",)  # type: ignore[union-attr]
    assert read_use("nvme0n1", TREE, deep).swap == ("/dev/mapper/vg-swap",)  # type: ignore[union-attr]
    root = SWAPS + "/swap.img file 1 0 -2\n"
    assert "/swap.img" in read_use("nvme0n1", TREE, root).swap  # type: ignore[union-attr]
    assert read_use("nvme1n1", TREE, root).swap == ()  # type: ignore[union-attr]


def test_signatures_that_both_know_count_once() -> None:
    use = read_use("nvme1n1", TREE, SWAPS, (), ["xfs", "ext4"])
    assert use is not None
    assert (use.holds, use.unread) == (("xfs nvme1n1", "ext4 nvme1n1"), False)


def test_swap_that_only_the_kernel_tells_of() -> None:
    tree = [top("nvme2n1")]
    assert read_use("nvme2n1", tree, SWAPS + "/dev/nvme2n1 partition 1 0 -2\n").swap == (  # type: ignore[union-attr]
        "/dev/nvme2n1",
    )


def test_boot_alone_is_the_root_too() -> None:
    for place in ("/boot", "/boot/efi"):
        assert read_use("nvme0n1", [top(mountpoints=[place])], SWAPS).root  # type: ignore[union-attr]
    assert not read_use("nvme0n1", [top(mountpoints=["/bootstrap"])], SWAPS).root  # type: ignore[union-attr]


def test_an_empty_drive_and_one_that_is_not_there() -> None:
    assert read_use("nvme0n1", [top()], SWAPS) == Use()
    assert read_use("nvme9n1", TREE, SWAPS) is None
