//! Keys for S3, in the order of AWS's SDKs: the environment, a web identity, the shared files, the container, the
//! machine.
//!
//! The first place that is set up gives the keys, or the error: no later place is asked then, since it may be another
//! account. Keys are obtained when the first bucket is asked, one request at a time, and renewed five minutes before
//! they expire.

mod answers;
mod profile;

use std::collections::HashMap;
use std::fmt;
use std::process::Command;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, SystemTime};

use camino::{Utf8Path, Utf8PathBuf};
use provision_core::redact::Redactor;
use provision_core::source_url::SourceUrl;
use provision_http::Secret;
use provision_http::credential_service::{ServiceAnswer, ServiceRequest, Services};
use provision_http::s3_config::{
    CredentialsError, CredentialsFuture, CredentialsProvider, S3Config, S3Credentials,
};

use self::profile::Profile;
use super::{credential_program, login_file};
use crate::cli::exit::{Code, Failure};

/// Keys are renewed this long before they expire.
const EARLY: Duration = Duration::from_mins(5);
/// A failure, and keys that could not be renewed, are kept this long.
const AGAIN: Duration = Duration::from_secs(10);
/// The time limit for a service of the network or of the container, and for the metadata service, which most machines
/// lack.
const PATIENCE: Duration = Duration::from_secs(10);
const METADATA_PATIENCE: Duration = Duration::from_secs(1);
/// The requests to a service that does not answer.
const TRIES: usize = 2;
/// The addresses of the container's endpoint that are asked over plain http, besides loopback ones.
const CONTAINER: [&str; 3] = ["169.254.170.2", "169.254.170.23", "fd00:ec2::23"];

/// The way out for profiles that only AWS's own tools can use.
const EXPORT: &str = "set the keys that `aws configure export-credentials --format env` prints";

type Variables = Box<dyn Fn(&str) -> Option<String> + Send + Sync>;
type Clock = Box<dyn Fn() -> SystemTime + Send + Sync>;
type Found = Result<Option<S3Credentials>, CredentialsError>;

/// The places of keys, and the keys that they gave.
pub(super) struct Chain {
    variable: Variables,
    clock: Clock,
    profile: Profile,
    profile_name: String,
    /// A shared file that is there and cannot be read.
    unread: Option<CredentialsError>,
    /// The last result. The lock lets one request obtain keys for all.
    kept: tokio::sync::Mutex<Option<Kept>>,
    /// Every secret that was given or used.
    secrets: Mutex<Vec<Secret>>,
    /// The files with tokens, as they were when they could be read.
    files: Mutex<HashMap<Utf8PathBuf, String>>,
}

impl fmt::Debug for Chain {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Chain").field("profile", &self.profile_name).finish_non_exhaustive()
    }
}

/// The last result of a search for keys.
struct Kept {
    found: Found,
    /// The time until which it is given; `None` for ever.
    until: Option<SystemTime>,
    /// The time at which no newer keys than refused ones were found.
    no_newer: Option<SystemTime>,
}

/// An error of the place `source`.
fn failure(source: impl Into<String>, why: impl Into<String>) -> CredentialsError {
    CredentialsError { source_name: source.into(), why: why.into() }
}

impl Chain {
    /// The places that these variables name. It reads the shared files.
    pub(super) fn new(variable: Variables, clock: Clock) -> Self {
        let profile_name = variable("AWS_PROFILE").unwrap_or_else(|| "default".to_owned());
        let mut profile = Profile::default();
        let mut unread = None;
        for (name, default, is_config) in [
            ("AWS_SHARED_CREDENTIALS_FILE", ".aws/credentials", false),
            ("AWS_CONFIG_FILE", ".aws/config", true),
        ] {
            let at_home = || Some(Utf8PathBuf::from(variable("HOME")?).join(default));
            let Some(path) = variable(name).map(Utf8PathBuf::from).or_else(at_home) else { continue };
            let file = format!("the profile {profile_name} of the file {path}");
            match login_file::read(&path) {
                Ok(text) => profile.add(&text, &profile_name, &file, is_config),
                // Also in a home that this user may not enter.
                Err(_) if path.metadata().is_err() => {}
                Err(error) => {
                    unread = Some(failure(
                        format!("the file {path} ({name})"),
                        format!("it cannot be read: {error}"),
                    ));
                }
            }
        }
        let (kept, secrets, files) = Default::default();
        Self { variable, clock, profile, profile_name, unread, kept, secrets, files }
    }

    /// The configuration of buckets.
    ///
    /// # Errors
    /// A variable's endpoint is no address.
    pub(super) fn config(self: &Arc<Self>, warnings: &mut Vec<String>) -> Result<S3Config, Failure> {
        let is_ignored = self.get("AWS_IGNORE_CONFIGURED_ENDPOINT_URLS").is_some_and(|value| is_true(&value));
        let mut endpoint = None;
        for name in ["AWS_ENDPOINT_URL_S3", "AWS_ENDPOINT_URL"] {
            if let (None, Some(text)) = (&endpoint, self.get(name).filter(|_| !is_ignored)) {
                let unusable =
                    |error| Failure::new(Code::Usage, format!("{name} is not an address: {error}"));
                endpoint = Some(text.trim().parse().map_err(unusable)?);
            }
        }
        if let (None, Some(text)) = (&endpoint, self.profile.get("endpoint_url").filter(|_| !is_ignored)) {
            match text.parse() {
                Ok(url) => endpoint = Some(url),
                Err(error) => {
                    let file = self.profile.file_of("endpoint_url");
                    warnings
                        .push(format!("endpoint_url in {file} is not an address: {error}; it is not used"));
                }
            }
        }
        Ok(S3Config { endpoint, region: self.region(), credentials: self.clone() })
    }

    /// Reads the files with tokens, so that they can be used if they cannot be read later.
    pub(super) fn keep_files(&self) {
        let of_profile = self.profile.get("web_identity_token_file").map(str::to_owned);
        let named = ["AWS_WEB_IDENTITY_TOKEN_FILE", "AWS_CONTAINER_AUTHORIZATION_TOKEN_FILE"]
            .map(|name| self.get(name));
        for path in named.into_iter().chain([of_profile]).flatten() {
            let _ = self.token_file(Utf8Path::new(&path));
        }
    }

    fn get(&self, name: &str) -> Option<String> {
        (self.variable)(name)
    }

    fn region(&self) -> Option<String> {
        let profile = || self.profile.get("region").map(str::to_owned);
        self.get("AWS_REGION").or_else(|| self.get("AWS_DEFAULT_REGION")).or_else(profile)
    }

    fn secrets(&self) -> MutexGuard<'_, Vec<Secret>> {
        self.secrets.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The token in a file, which its owner replaces now and then.
    fn token_file(&self, path: &Utf8Path) -> std::io::Result<Secret> {
        let mut files = self.files.lock().unwrap_or_else(PoisonError::into_inner);
        let text = match login_file::read(path) {
            Ok(text) => files.entry(path.to_owned()).insert_entry(text).get().clone(),
            Err(error) => files.get(path).cloned().ok_or(error)?,
        };
        Ok(self.used(text.trim()))
    }

    /// A secret that is sent to a service.
    fn used(&self, text: &str) -> Secret {
        let secret = Secret::new(text);
        let mut secrets = self.secrets();
        if !secrets.contains(&secret) {
            secrets.push(secret.clone());
        }
        secret
    }

    /// The keys of the first place that is set up.
    async fn find(&self, services: &dyn Services) -> Found {
        if let Some(found) = self.of_variables().or_else(|| self.without_profile()) {
            return found.map(Some);
        }
        if let (Some(token), Some(role)) = (self.get("AWS_WEB_IDENTITY_TOKEN_FILE"), self.get("AWS_ROLE_ARN"))
        {
            let source = "AWS_WEB_IDENTITY_TOKEN_FILE and AWS_ROLE_ARN";
            let session = self.get("AWS_ROLE_SESSION_NAME");
            return self.by_web_identity(services, &token, &role, session.as_deref(), source).await.map(Some);
        }
        if let Some(found) = self.of_profile(services).await {
            return found.map(Some);
        }
        if let Some(found) = self.of_container(services).await {
            return found.map(Some);
        }
        self.of_machine(services).await
    }

    /// The keys in variables.
    fn of_variables(&self) -> Option<Result<S3Credentials, CredentialsError>> {
        const NAMES: [&str; 2] = ["AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY"];
        let [access_key, secret_key] = match NAMES.map(|name| self.get(name)) {
            [Some(access_key), Some(secret_key)] => [access_key, secret_key],
            [None, None] => return None,
            [access_key, _] => {
                let [set, missing] = if access_key.is_some() { NAMES } else { [NAMES[1], NAMES[0]] };
                return Some(Err(failure(set, format!("{missing} is not set: set both, or neither"))));
            }
        };
        Some(Ok(S3Credentials {
            access_key: access_key.trim().to_owned(),
            secret_key: Secret::new(secret_key.trim()),
            session_token: self.get("AWS_SESSION_TOKEN").map(|token| Secret::new(token.trim())),
            expires: None,
            source: NAMES[0].to_owned(),
        }))
    }

    /// The error if `AWS_PROFILE` names none.
    fn without_profile(&self) -> Option<Result<S3Credentials, CredentialsError>> {
        self.get("AWS_PROFILE").filter(|_| !self.profile.is_defined).map(|name| {
            if let Some(error) = self.unread.clone() {
                return Err(error);
            }
            let why = "no such profile is in ~/.aws/credentials (AWS_SHARED_CREDENTIALS_FILE) or ~/.aws/config (AWS_CONFIG_FILE)";
            Err(failure(format!("the profile {name} (AWS_PROFILE)"), why))
        })
    }

    /// The keys of a role, for the token of another identity.
    async fn by_web_identity(
        &self,
        services: &dyn Services,
        file: &str,
        role: &str,
        session: Option<&str>,
        source: &str,
    ) -> Result<S3Credentials, CredentialsError> {
        let unreadable = |error| failure(source, format!("the file {file} cannot be read: {error}"));
        let token = self.token_file(Utf8Path::new(file)).map_err(unreadable)?;
        let endpoint =
            ["AWS_ENDPOINT_URL_STS", "AWS_ENDPOINT_URL"].into_iter().find_map(|name| self.get(name));
        let endpoint = endpoint.unwrap_or_else(|| match self.region() {
            Some(region) if region.starts_with("cn-") => format!("https://sts.{region}.amazonaws.com.cn"),
            Some(region) => format!("https://sts.{region}.amazonaws.com"),
            None => "https://sts.amazonaws.com".to_owned(),
        });
        let url: SourceUrl = endpoint
            .trim()
            .parse()
            .map_err(|error| failure(source, format!("the address of STS: {error}")))?;
        if !url.is_https() && !url.is_loopback() {
            return Err(failure(source, format!("the token is not sent to {url} over plain http")));
        }
        let form = token.form(
            &[
                ("Action", "AssumeRoleWithWebIdentity"),
                ("Version", "2011-06-15"),
                ("RoleArn", role),
                ("RoleSessionName", session.unwrap_or("provision")),
            ],
            "WebIdentityToken",
        );
        let direct = !url.is_https();
        let request = ServiceRequest {
            method: "POST",
            url,
            headers: Vec::new(),
            form: Some(form),
            direct,
            limit: PATIENCE,
        };
        let answer = ask(services, request).await.map_err(|why| failure(source, why))?;
        if answer.status != 200 {
            let code =
                answers::error_code(&answer.body).map_or_else(String::new, |code| format!(" ({code})"));
            let why = format!(
                "STS answered {}{code}: check the role {role}, and the token in {file}",
                answer.status
            );
            return Err(failure(source, why));
        }
        answers::of_xml(&answer.body, source).ok_or_else(|| failure(source, "STS answered without keys"))
    }

    /// The keys of the profile; `None` if it has no setting about keys.
    async fn of_profile(&self, services: &dyn Services) -> Option<Result<S3Credentials, CredentialsError>> {
        if let Some(error) = self.unread.clone() {
            return Some(Err(error));
        }
        let profile = &self.profile;
        let setting = |key: &str| profile.get(key).map(str::to_owned);
        if let Some(role) = profile.get("role_arn") {
            let source = profile.file_of("role_arn");
            let Some(token) = profile.get("web_identity_token_file") else {
                let why =
                    format!("its role_arn needs keys of another profile, which is not supported: {EXPORT}");
                return Some(Err(failure(source, why)));
            };
            let session = profile.get("role_session_name");
            return Some(self.by_web_identity(services, token, role, session, source).await);
        }
        if let (Some(access_key), Some(secret_key)) =
            (setting("aws_access_key_id"), setting("aws_secret_access_key"))
        {
            return Some(Ok(S3Credentials {
                access_key,
                secret_key: Secret::new(secret_key),
                session_token: setting("aws_session_token").map(Secret::new),
                expires: None,
                source: profile.file_of("aws_access_key_id").to_owned(),
            }));
        }
        if let Some(process) = setting("credential_process") {
            let source = format!("credential_process of {}", profile.file_of("credential_process"));
            return Some(of_process(process, source).await);
        }
        let key = ["sso_session", "sso_start_url", "login_session"]
            .into_iter()
            .find(|key| profile.get(key).is_some())?;
        Some(Err(failure(profile.file_of(key), format!("its {key} is not supported: {EXPORT}"))))
    }

    /// The keys of the container's role, from ECS or EKS.
    async fn of_container(&self, services: &dyn Services) -> Option<Result<S3Credentials, CredentialsError>> {
        const NAMES: [&str; 2] =
            ["AWS_CONTAINER_CREDENTIALS_RELATIVE_URI", "AWS_CONTAINER_CREDENTIALS_FULL_URI"];
        let (source, address) = match NAMES.map(|name| self.get(name)) {
            [Some(path), _] => (NAMES[0], format!("http://{}{path}", CONTAINER[0])),
            [None, Some(address)] => (NAMES[1], address),
            [None, None] => return None,
        };
        Some(self.by_container(services, source, address.trim()).await)
    }

    async fn by_container(
        &self,
        services: &dyn Services,
        source: &str,
        address: &str,
    ) -> Result<S3Credentials, CredentialsError> {
        let url: SourceUrl =
            address.parse().map_err(|error| failure(source, format!("it is not an address: {error}")))?;
        if !url.is_https() && !url.is_loopback() && !CONTAINER.contains(&&*url.host()) {
            let why =
                "plain http is for this machine and the endpoints of ECS and EKS only: correct it to https";
            return Err(failure(source, why));
        }
        let token = if let Some(file) = self.get("AWS_CONTAINER_AUTHORIZATION_TOKEN_FILE") {
            let unreadable = |error| {
                failure(
                    "AWS_CONTAINER_AUTHORIZATION_TOKEN_FILE",
                    format!("the file {file} cannot be read: {error}"),
                )
            };
            Some(self.token_file(Utf8Path::new(&file)).map_err(unreadable)?)
        } else {
            self.get("AWS_CONTAINER_AUTHORIZATION_TOKEN").map(|token| self.used(token.trim()))
        };
        let headers = token.map(|token| ("authorization", token)).into_iter().collect();
        let request = ServiceRequest { headers, limit: PATIENCE, ..get(url) };
        let answer = ask(services, request).await.map_err(|why| failure(source, why))?;
        if answer.status != 200 {
            return Err(failure(source, format!("the container's endpoint answered {}", answer.status)));
        }
        let keys = answers::of_json(&answer.body, source);
        keys.ok_or_else(|| failure(source, "the container's endpoint answered without keys"))
    }

    /// The keys of the machine's role, by version 2 of its metadata service; `None` on a machine without that or
    /// without a role.
    async fn of_machine(&self, services: &dyn Services) -> Found {
        const SOURCE: &str = "the machine's metadata service (IMDS)";
        if self.get("AWS_EC2_METADATA_DISABLED").is_some_and(|value| is_true(&value)) {
            return Ok(None);
        }
        let is_ipv6 = self
            .get("AWS_EC2_METADATA_SERVICE_ENDPOINT_MODE")
            .is_some_and(|mode| mode.eq_ignore_ascii_case("ipv6"));
        let default = if is_ipv6 { "http://[fd00:ec2::254]" } else { "http://169.254.169.254" };
        let base = self.get("AWS_EC2_METADATA_SERVICE_ENDPOINT").unwrap_or_else(|| default.to_owned());
        let at = |path: &str| -> Result<SourceUrl, CredentialsError> {
            let address = format!("{}{path}", base.trim().trim_end_matches('/'));
            let unusable = |error| format!("it is not an address: {error}");
            address.parse().map_err(|error| failure("AWS_EC2_METADATA_SERVICE_ENDPOINT", unusable(error)))
        };
        let seconds = ("x-aws-ec2-metadata-token-ttl-seconds", Secret::new("21600"));
        let request =
            ServiceRequest { method: "PUT", headers: vec![seconds], ..get(at("/latest/api/token")?) };
        let Ok(ServiceAnswer { status: 200, body }) = ask(services, request).await else { return Ok(None) };
        let token = self.used(String::from_utf8_lossy(&body).trim());
        let roles = "/latest/meta-data/iam/security-credentials/";
        let with_token =
            |url| ServiceRequest { headers: vec![("x-aws-ec2-metadata-token", token.clone())], ..get(url) };
        let listed = ask(services, with_token(at(roles)?)).await.map_err(|why| failure(SOURCE, why))?;
        let listed =
            Some(String::from_utf8_lossy(&listed.body).into_owned()).filter(|_| listed.status == 200);
        let role = listed.as_deref().and_then(|roles| roles.lines().next()).map(str::trim);
        let Some(role) = role.filter(|role| !role.is_empty()) else { return Ok(None) };
        let answer = ask(services, with_token(at(&format!("{roles}{role}"))?)).await;
        let answer = answer.map_err(|why| failure(SOURCE, why))?;
        let keys = answers::of_json(&answer.body, SOURCE).filter(|_| answer.status == 200);
        keys.ok_or_else(|| failure(SOURCE, format!("it answered {} without keys", answer.status))).map(Some)
    }
}

impl CredentialsProvider for Chain {
    fn credentials<'a>(
        &'a self,
        services: &'a dyn Services,
        refused: Option<&'a S3Credentials>,
    ) -> CredentialsFuture<'a> {
        Box::pin(async move {
            let mut kept = self.kept.lock().await;
            let now = (self.clock)();
            if let Some(Kept { found, until, no_newer }) = &*kept {
                let is_refused = matches!(found, Ok(Some(keys)) if Some(keys) == refused);
                let may_be_newer = no_newer.is_none_or(|asked| now >= asked + AGAIN);
                if until.is_none_or(|until| now < until) && !(is_refused && may_be_newer) {
                    return found.clone();
                }
            }
            let found = self.find(services).await;
            let (found, until) = match (found, kept.take()) {
                // The older keys are good for a while.
                (Err(_), Some(Kept { found: Ok(Some(old)), .. }))
                    if Some(&old) != refused && old.expires.is_none_or(|end| now < end) =>
                {
                    (Ok(Some(old)), Some(now + AGAIN))
                }
                (Err(error), _) => (Err(error), Some(now + AGAIN)),
                (found, _) => {
                    let end = found.as_ref().ok().and_then(|keys| keys.as_ref()?.expires);
                    let until =
                        end.map(|end| end.checked_sub(EARLY).map_or(end, |early| early.max(now + AGAIN)));
                    (found, until)
                }
            };
            if let Ok(Some(keys)) = &found {
                let given = [Some(&keys.secret_key), keys.session_token.as_ref()].into_iter().flatten();
                let mut secrets = self.secrets();
                for secret in given {
                    if !secrets.contains(secret) {
                        secrets.push(secret.clone());
                    }
                }
            }
            let is_refused = matches!(&found, Ok(Some(keys)) if Some(keys) == refused);
            *kept = Some(Kept { found: found.clone(), until, no_newer: is_refused.then_some(now) });
            found
        })
    }

    fn add_to(&self, redactor: &mut Redactor) {
        for secret in &*self.secrets() {
            secret.add_to(redactor);
        }
    }
}

/// A request to the metadata service, or to the container's endpoint.
fn get(url: SourceUrl) -> ServiceRequest {
    ServiceRequest {
        method: "GET",
        url,
        headers: Vec::new(),
        form: None,
        direct: true,
        limit: METADATA_PATIENCE,
    }
}

/// Asks a service, a second time if it does not answer or fails.
async fn ask(services: &dyn Services, request: ServiceRequest) -> Result<ServiceAnswer, String> {
    let mut answer = services.ask(request.clone()).await;
    for _ in 1..TRIES {
        if matches!(&answer, Ok(ServiceAnswer { status: ..500, .. })) {
            break;
        }
        answer = services.ask(request.clone()).await;
    }
    answer.map_err(|kind| format!("{}: {kind}", request.url))
}

/// The keys that the command of `credential_process` prints.
async fn of_process(command: String, source: String) -> Result<S3Credentials, CredentialsError> {
    let (sender, receiver) = tokio::sync::oneshot::channel();
    std::thread::spawn(move || {
        let mut shell = Command::new("/bin/sh");
        sender.send(credential_program::run(shell.arg("-c").arg(command), b"", credential_program::LONGEST))
    });
    let answer = match receiver.await {
        Ok(Ok(answer)) if answer.has_succeeded => answer,
        Ok(Err(error)) => return Err(failure(source, format!("the command cannot be run: {error}"))),
        _ => return Err(failure(source, "the command failed; run it by hand to see why")),
    };
    answers::of_json(&answer.out, &source).ok_or_else(|| failure(source, "the command printed no keys"))
}

/// A variable that says yes.
fn is_true(value: &str) -> bool {
    value.trim().eq_ignore_ascii_case("true")
}

#[cfg(test)]
mod tests;
