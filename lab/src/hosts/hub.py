"""Drives the Hub at HF_ENDPOINT with the Hub's own client. The arguments describe its content.

    hub.py REPOSITORY COMMIT LARGE_PATH SHA256 SIZE SMALL_PATH SMALL_TEXT GATED_REPOSITORY TOKEN ENTRIES

Each line of output is a check that passed. The first failure ends the script with a traceback.
"""

import hashlib
import os
import sys
import tempfile

from huggingface_hub import HfApi, __version__, hf_hub_download, hf_hub_url, get_hf_file_metadata, snapshot_download
from huggingface_hub.utils import (
    EntryNotFoundError,
    GatedRepoError,
    RepositoryNotFoundError,
    RevisionNotFoundError,
)

(repository, commit, large, sha256, size, small, text, gated, token, entries) = sys.argv[1:]
size = int(size)
endpoint = os.environ["HF_ENDPOINT"]
api = HfApi(endpoint=endpoint, token=False)


def holds(what, condition):
    if not condition:
        raise AssertionError(what)
    print("    " + what)


def refuses(what, error, call):
    try:
        call()
    except error:
        print("    " + what)
        return
    raise AssertionError(what)


print(f"    huggingface_hub {__version__}")
info = api.model_info(repository, files_metadata=True)
holds("model_info has the commit", info.sha == commit)
by_name = {sibling.rfilename: sibling for sibling in info.siblings}
holds("model_info has the size and the digest of a large file", by_name[large].size == size and by_name[large].lfs["sha256"] == sha256)
holds("model_info has no LFS entry for a small file", by_name[small].lfs is None and by_name[small].size == len(text))

tree = list(api.list_repo_tree(repository, recursive=True))
holds("list_repo_tree follows every page", len(tree) == int(entries))
listed = {entry.path: entry for entry in tree}
holds("list_repo_tree has the same digest", listed[large].lfs.sha256 == sha256 and listed[large].size == size)
holds("list_repo_tree has a Xet hash that is no digest", listed[large].xet_hash not in (None, sha256))
by_commit = list(api.list_repo_tree(repository, recursive=True, revision=commit))
holds("a commit lists the same", [entry.path for entry in by_commit] == [entry.path for entry in tree])

metadata = get_hf_file_metadata(hf_hub_url(repository, large, endpoint=endpoint), token=False)
holds("the redirect's headers have commit, digest and size", (metadata.commit_hash, metadata.etag, metadata.size) == (commit, sha256, size))
holds("the redirect leads to another host", not metadata.location.startswith(endpoint + "/"))

with tempfile.TemporaryDirectory() as folder:
    path = hf_hub_download(repository, large, cache_dir=folder, endpoint=endpoint, token=False)
    with open(path, "rb") as file:
        content = file.read()
    holds("hf_hub_download gets the large file", len(content) == size and hashlib.sha256(content).hexdigest() == sha256)
    path = hf_hub_download(repository, small, cache_dir=folder, endpoint=endpoint, token=False)
    with open(path) as file:
        holds("hf_hub_download gets the small file", file.read() == text)
    path = snapshot_download(repository, cache_dir=folder, endpoint=endpoint, token=False, allow_patterns=[small])
    holds("snapshot_download is at the commit", path.endswith(commit))

refuses("an unknown repository is refused", RepositoryNotFoundError, lambda: api.model_info("absent/absent"))
refuses("an unknown revision is refused", RevisionNotFoundError, lambda: api.model_info(repository, revision="nope"))
refuses("an unknown file is refused", EntryNotFoundError, lambda: hf_hub_download(repository, "nope.bin", endpoint=endpoint, token=False))
refuses("a gated file without a token is refused", GatedRepoError, lambda: hf_hub_download(gated, large, endpoint=endpoint, token=False))
refuses("a gated file with a wrong token is refused", GatedRepoError, lambda: hf_hub_download(gated, large, endpoint=endpoint, token="hf_other"))
with tempfile.TemporaryDirectory() as folder:
    path = hf_hub_download(gated, large, cache_dir=folder, endpoint=endpoint, token=token)
    holds("the token opens the gate", os.path.getsize(path) == size)
# Into the client's own cache below HF_HOME, for the project's --reuse.
for path in (large, small):
    hf_hub_download(repository, path, endpoint=endpoint, token=False)
