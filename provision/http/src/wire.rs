//! The client for bodies of model files: TCP, proxies and HTTP/1.1 into the caller's buffer.

pub(crate) mod connect;
pub(crate) mod http1;
pub(crate) mod proxy;
