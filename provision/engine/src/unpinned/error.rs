//! The error of a download of an unpinned file.

use camino::Utf8PathBuf;

use provision_core::byte_size::ByteSize;
use provision_core::source_url::SourceUrl;
use provision_disk::DiskError;
use provision_http::RequestError;

/// A failed download of an unpinned file.
#[derive(Debug, thiserror::Error)]
pub enum UnpinnedError {
    /// A request failed.
    #[error(transparent)]
    Request(#[from] RequestError),
    /// The file's length differs from the declared one.
    #[error(
        "{url}: {}; nothing was recorded. The host may be replacing the file: try again, or give another URL of it",
        found.map_or_else(
            || format!("the file is longer than {}, which the host declared", ByteSize(*declared).exact()),
            |found| {
                let (found, declared) = (ByteSize(found).exact(), ByteSize(*declared).exact());
                format!("the file has {found} now, and the host declared {declared} before")
            }
        )
    )]
    OtherSize {
        /// The download URL.
        url: SourceUrl,
        /// The length that the host declared first.
        declared: u64,
        /// The length that it declares now; `None` if it declares none and sends more.
        found: Option<u64>,
    },
    /// A body without a declared length that does not end.
    #[error(
        "{url}: the host declares no length and sends more than {}, the limit for such a file (nine tenths of the free space, \
         and the size of a cache); nothing was recorded. Give another URL of it",
        ByteSize(*most)
    )]
    Endless {
        /// The download URL.
        url: SourceUrl,
        /// The limit in bytes.
        most: u64,
    },
    /// A disk operation failed.
    #[error("{}", .0.reason())]
    Disk(#[from] DiskError),
    /// The cache may not have so many bytes.
    #[error(
        "{path} keeps {} at most, and has no room for {}; --cache-size and `cache prune` make room",
        ByteSize(*most),
        ByteSize(*size)
    )]
    CacheFull {
        /// The cache.
        path: Utf8PathBuf,
        /// The most bytes in it.
        most: u64,
        /// The file's size in bytes.
        size: u64,
    },
    /// Another run holds the destination or the cache.
    #[error("another run holds {holder}; wait for its end, or choose another {option}")]
    Busy {
        /// The lock's path and its known holder.
        holder: String,
        /// The option that chooses another directory.
        option: &'static str,
    },
}

impl UnpinnedError {
    /// True if the place is the reason: the file may be read into another one.
    pub fn is_about_place(&self) -> bool {
        matches!(self, Self::Disk(_) | Self::Busy { .. } | Self::CacheFull { .. })
    }

    /// True if the place lacks room for the file, and may have some for a smaller one.
    pub fn is_about_room(&self) -> bool {
        matches!(self, Self::Disk(DiskError::NotEnoughSpace { .. }) | Self::CacheFull { .. })
    }
}
