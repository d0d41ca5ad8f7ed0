//! Services that issue credentials: one request to such a service, and its answer.
//!
//! A [`ServiceRequest`] carries no credential of the client, follows no redirect, and is not tried again. Its address
//! is the user's own or a fixed one, never a lock's.

use std::pin::Pin;
use std::time::Duration;

use crate::auth::credentials::Secret;
use crate::transport::TransportError;
use provision_core::source_url::SourceUrl;

/// A request to a service.
#[derive(Debug, Clone)]
pub struct ServiceRequest {
    /// `GET`, `PUT` or `POST`.
    pub method: &'static str,
    /// The address.
    pub url: SourceUrl,
    /// More headers, by their names in lower case.
    pub headers: Vec<(&'static str, Secret)>,
    /// The body, as `application/x-www-form-urlencoded`.
    pub form: Option<Secret>,
    /// Connects past the proxies: the service is on this machine or beside it.
    pub direct: bool,
    /// The time limit for the whole exchange.
    pub limit: Duration,
}

/// The answer of a service. Its body may hold secrets.
#[derive(Clone)]
pub struct ServiceAnswer {
    /// The status.
    pub status: u16,
    /// The body, at most a mebibyte.
    pub body: Vec<u8>,
}

/// The future of an answer.
pub type ServiceFuture<'a> = Pin<Box<dyn Future<Output = Result<ServiceAnswer, TransportError>> + Send + 'a>>;

/// A client that asks services.
pub trait Services: Send + Sync {
    /// Sends a request and reads the whole answer, whatever its status.
    fn ask(&self, request: ServiceRequest) -> ServiceFuture<'_>;
}
