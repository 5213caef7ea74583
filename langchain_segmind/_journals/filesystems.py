"""Which file system a file is on."""

from __future__ import annotations

import re
from pathlib import Path

MOUNTS = Path("/proc/self/mountinfo")

# Their locks and shared memory do not hold between machines, or at all (9p is WSL's /mnt/c).
NETWORK = frozenset(
    {
        *("9p", "afs", "beegfs", "ceph", "cifs", "glusterfs", "gpfs", "lustre", "ncpfs"),
        *("nfs", "nfs4", "smb2", "smb3", "smbfs"),
        *("fuse.ceph", "fuse.gcsfuse", "fuse.glusterfs", "fuse.juicefs", "fuse.rclone"),
        *("fuse.s3fs", "fuse.sshfs"),
    }
)


def network_file_system(path: Path) -> str | None:
    """Name the network file system that a file is on; nothing, where it is on none or not told."""
    try:
        mounts = MOUNTS.read_text("utf-8", "surrogateescape")
    except OSError:  # Linux has it.
        return None
    folders = {path, *path.parents}
    kind, length = "", -1
    for line in mounts.splitlines():
        # proc(5): id, parent, device, root, mount point, options, ..., "-", type, source, options.
        mount, _, rest = line.partition(" - ")
        point = Path(re.sub(r"\\(\d{3})", lambda code: chr(int(code[1], 8)), mount.split(" ")[4]))
        # The longest one holds the file; of two on one point, the later one hides the other.
        if point in folders and len(point.parts) >= length:
            kind, length = rest.split(" ")[0], len(point.parts)
    return kind if kind in NETWORK else None
