"""Fetches the files of a list (lines: address, tab, path) by hf_transfer, up to eight at once as huggingface_hub does,
each in pieces of 10 MiB. The connections are shared among the files that run at once. Processes and not threads: a
download holds the interpreter's lock to its end, so threads would wait for each other.
"""

import sys
from concurrent.futures import ProcessPoolExecutor

import hf_transfer

FILES_AT_ONCE = 8
CONNECTIONS = 64
PIECE = 10 << 20

with open(sys.argv[1], encoding="utf-8") as lines:
    jobs = [line.rstrip("\n").split("\t") for line in lines]
at_once = min(len(jobs), FILES_AT_ONCE)


def fetch(job):
    address, path = job
    hf_transfer.download(
        url=address,
        filename=path,
        max_files=CONNECTIONS // at_once,
        chunk_size=PIECE,
        parallel_failures=3,
        max_retries=5,
    )


with ProcessPoolExecutor(at_once) as pool:
    for _ in pool.map(fetch, jobs):
        pass
