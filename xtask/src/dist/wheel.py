"""Packs a directory as a wheel: names in order, one time for all files, and at the end RECORD with their digests."""

import base64
import hashlib
import pathlib
import sys
import time
import zipfile

stage, wheel, epoch = pathlib.Path(sys.argv[1]), sys.argv[2], int(sys.argv[3])
# A zip file knows no time before 1980.
when = time.gmtime(max(epoch, 315532800))[:6]
rows = []


def add(archive, name, data, mode):
    entry = zipfile.ZipInfo(name, when)
    entry.compress_type = zipfile.ZIP_DEFLATED
    entry.external_attr = (0o100000 | mode) << 16
    archive.writestr(entry, data, compresslevel=9)
    digest = base64.urlsafe_b64encode(hashlib.sha256(data).digest()).rstrip(b"=").decode()
    rows.append(f"{name},sha256={digest},{len(data)}\n")


with zipfile.ZipFile(wheel, "w") as archive:
    for path in sorted(path for path in stage.rglob("*") if path.is_file()):
        name = path.relative_to(stage).as_posix()
        add(archive, name, path.read_bytes(), 0o755 if ".data/scripts/" in name else 0o644)
    record = next(stage.glob("*.dist-info")).name + "/RECORD"
    rows.append(f"{record},,\n")
    add(archive, record, "".join(rows).encode(), 0o644)
