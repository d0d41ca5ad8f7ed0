//! Credentials: each secret and the one host that it goes to.
//!
//! `Credentials::authorization` chooses the secret for a request, and compares whole host names.
//! `Credential::authorization` gives nothing to a plain http URL except on loopback.

use std::fmt;

use provision_core::redact::Redactor;
use provision_core::source_url::SourceUrl;

/// A text that `Debug` does not show.
#[derive(Clone, PartialEq, Eq)]
pub struct Secret(String);

impl Secret {
    /// Wraps a secret.
    pub fn new(text: impl Into<String>) -> Self {
        Self(text.into())
    }

    /// A form (`application/x-www-form-urlencoded`) with these fields, and with the secret as the field `name`.
    #[must_use]
    pub fn form(&self, fields: &[(&str, &str)], name: &str) -> Self {
        let mut form = url::form_urlencoded::Serializer::new(String::new());
        form.extend_pairs(fields).append_pair(name, &self.0);
        Self(form.finish())
    }

    /// Adds it to a redactor.
    pub fn add_to(&self, redactor: &mut Redactor) {
        redactor.add_token(&self.0);
    }

    pub(crate) fn reveal(&self) -> &str {
        &self.0
    }
}

impl fmt::Debug for Secret {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("***")
    }
}

/// A value for the `Authorization` header, and its host.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Credential {
    host: String,
    port: Option<u16>,
    authorization: Secret,
    /// The variable or file that it came from, for messages.
    source: String,
    /// The password, and `user:password`, which `authorization` holds in Base64.
    login: Option<[Secret; 2]>,
    /// `authorization` is an identity token, which only a token service takes, in exchange for another.
    is_identity: bool,
}

impl Credential {
    /// `Bearer TOKEN` for exactly this host, on one port or on any.
    pub fn bearer(host: impl Into<String>, port: Option<u16>, token: &str) -> Self {
        let authorization = Secret::new(format!("Bearer {token}"));
        let source = UNNAMED.to_owned();
        Self { host: host.into(), port, authorization, source, login: None, is_identity: false }
    }

    /// An identity token for the token service of the registry at exactly this host: docker's `identitytoken`.
    pub fn identity(host: impl Into<String>, token: &str) -> Self {
        let authorization = Secret::new(token);
        Self { authorization, is_identity: true, ..Self::bearer(host, None, "") }
    }

    /// HTTP Basic from its encoded form, the Base64 of `user:password`; `None` for any other text.
    pub fn basic_encoded(host: impl Into<String>, encoded: &str) -> Option<Self> {
        let text = String::from_utf8(decoded_base64(encoded)?).ok()?;
        let (login, password) = text.split_once(':')?;
        // Docker on Windows pads the password so.
        Some(Self::basic(host, login, password.trim_end_matches('\0')))
    }

    /// Names the variable or file that the credential came from.
    #[must_use]
    pub fn from(self, source: impl Into<String>) -> Self {
        Self { source: source.into(), ..self }
    }

    /// The credential in words: `the token in HF_TOKEN`.
    pub(crate) fn name(&self) -> String {
        match self.login {
            None if self.is_identity => format!("the login for {} in {}", self.host, self.source),
            None => format!("the token in {}", self.source),
            Some(_) => format!("the login for {} in {}", self.host, self.source),
        }
    }

    /// HTTP Basic (RFC 7617) for exactly this host.
    pub fn basic(host: impl Into<String>, login: &str, password: &str) -> Self {
        let both = format!("{login}:{password}");
        let encoded = base64(both.as_bytes());
        let authorization = Secret::new(format!("Basic {encoded}"));
        let login = Some([Secret::new(password), Secret::new(both)]);
        let source = UNNAMED.to_owned();
        Self { host: host.into(), port: None, authorization, source, login, is_identity: false }
    }

    /// The `Authorization` value for a request to `url`, over https or to loopback only. The caller has chosen the
    /// host.
    pub(crate) fn authorization(&self, url: &SourceUrl) -> Option<&Secret> {
        (may_have_secret(url) && !self.is_identity).then_some(&self.authorization)
    }

    /// The identity token for a token service.
    pub(crate) fn identity_token(&self) -> Option<&Secret> {
        self.is_identity.then_some(&self.authorization)
    }

    /// Adds its secrets to a redactor.
    pub(crate) fn add_to(&self, redactor: &mut Redactor) {
        redactor.add_token(self.authorization.reveal().rsplit(' ').next().unwrap_or_default());
        for text in self.login.iter().flatten() {
            redactor.add_password(text.reveal());
        }
    }
}

/// True if a secret may go to `url`: over https, or to this machine.
pub(crate) fn may_have_secret(url: &SourceUrl) -> bool {
    url.is_https() || url.is_loopback()
}

/// The source of a credential whose source is not given.
const UNNAMED: &str = "the configuration";

/// Every credential of a run.
#[derive(Debug, Clone, Default)]
pub struct Credentials {
    entries: Vec<Credential>,
    /// The reason for which a netrc file was not read.
    unread: Option<String>,
}

impl Credentials {
    /// No credential.
    pub fn none() -> Self {
        Self::default()
    }

    /// Adds a credential. The first one for a host is used.
    pub fn add(&mut self, credential: Credential) {
        self.entries.push(credential);
    }

    /// Records that a netrc file could not be read. `why` becomes part of the error when a host refuses a request.
    pub fn set_unread(&mut self, why: impl Into<String>) {
        self.unread = Some(why.into());
    }

    /// The reason for which a netrc file was not read.
    pub(crate) fn unread(&self) -> Option<&str> {
        self.unread.as_deref()
    }

    /// Adds every secret to a redactor.
    pub(crate) fn add_to(&self, redactor: &mut Redactor) {
        for credential in &self.entries {
            credential.add_to(redactor);
        }
    }

    /// The `Authorization` value for a request to `url`: the host's own, and only over https or to loopback.
    pub(crate) fn authorization(&self, url: &SourceUrl) -> Option<&Secret> {
        self.of(url)?.authorization(url)
    }

    /// The credential for `url` in words, with its variable or file. First the one that may be sent, then the one that
    /// is withheld because the URL is plain http.
    pub(crate) fn names(&self, url: &SourceUrl) -> (Option<String>, Option<String>) {
        let name = self.of(url).map(Credential::name);
        if self.authorization(url).is_some() { (name, None) } else { (None, name) }
    }

    /// The first credential for the host of `url`.
    fn of(&self, url: &SourceUrl) -> Option<&Credential> {
        let (host, port) = (url.host(), url.as_url().port_or_known_default());
        self.entries.iter().find(|entry| {
            entry.host.eq_ignore_ascii_case(&host) && entry.port.is_none_or(|only| Some(only) == port)
        })
    }
}

/// The digits of Base64.
const BASE64: &[u8; 64] = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";

/// Base64 (RFC 4648 section 4), for header values; too little for a dependency.
pub fn base64(bytes: &[u8]) -> String {
    let mut text = String::with_capacity(bytes.len().div_ceil(3) * 4);
    for group in bytes.chunks(3) {
        let word =
            group.iter().fold(0u32, |word, byte| word << 8 | u32::from(*byte)) << (8 * (3 - group.len()));
        for at in 0..4 {
            let digit = BASE64[(word >> (18 - 6 * at) & 63) as usize];
            text.push(if at <= group.len() { char::from(digit) } else { '=' });
        }
    }
    text
}

/// The bytes of Base64, with or without its padding; `None` for other text.
fn decoded_base64(text: &str) -> Option<Vec<u8>> {
    let (mut bytes, mut word, mut bits) = (Vec::new(), 0_u32, 0);
    for byte in text.trim().trim_end_matches('=').bytes() {
        let digit = BASE64.iter().position(|digit| *digit == byte)?;
        word = word << 6 | u32::try_from(digit).ok()?;
        bits += 6;
        if bits >= 8 {
            bits -= 8;
            bytes.push(u8::try_from(word >> bits & 0xff).ok()?);
        }
    }
    Some(bytes)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn url(text: &str) -> SourceUrl {
        text.parse().unwrap()
    }

    fn hub() -> Credentials {
        let mut credentials = Credentials::none();
        credentials.add(Credential::bearer("huggingface.co", None, "canary"));
        credentials
    }

    #[test]
    fn a_token_goes_to_its_own_host_over_https_only() {
        let credentials = hub();
        assert!(credentials.authorization(&url("https://huggingface.co/x")).is_some());
        assert!(credentials.authorization(&url("http://huggingface.co/x")).is_none());
    }

    #[test]
    fn fault_52_look_alike_hosts_get_no_token() {
        let credentials = hub();
        for text in [
            "https://huggingface.co.evil/x",
            "https://evil/?x=huggingface.co",
            "https://evilhuggingface.co/x",
            "https://cdn.huggingface.co/x",
            "https://evil/huggingface.co/resolve/main/x",
        ] {
            assert!(credentials.authorization(&url(text)).is_none(), "{text}");
        }
    }

    #[test]
    fn fault_44_a_credential_with_a_port_goes_to_that_port_only() {
        let mut credentials = Credentials::none();
        credentials.add(Credential::bearer("127.0.0.1", Some(8080), "canary"));
        assert!(credentials.authorization(&url("http://127.0.0.1:8080/x")).is_some());
        assert!(credentials.authorization(&url("http://127.0.0.1:8081/x")).is_none());
    }

    #[test]
    fn fault_53_secrets_are_not_in_debug_output() {
        assert!(!format!("{:?}", hub()).contains("canary"));
    }

    #[test]
    fn fault_53_secrets_that_a_server_repeats_are_redacted() {
        let requested = url("https://huggingface.co/x?X-Amz-Date=1&X-Amz-Signature=canary-signature");
        let mut credentials = Credentials::none();
        credentials.add(Credential::bearer("huggingface.co", None, "canary-token"));
        credentials.add(Credential::basic("h.example", "user", "canary"));
        let mut redactor = Redactor::default();
        credentials.add_to(&mut redactor);
        redactor.add_queries([&requested].into_iter());
        let text = "Bearer canary-token may not GET /x?X-Amz-Date=1&X-Amz-Signature=canary-signature, \
                    canary-signature is over, user:canary (dXNlcjpjYW5hcnk=) is unknown";
        let shown = redactor.redact(text);
        assert!(!shown.contains("canary") && !shown.contains("dXNl"), "{shown}");
        assert!(shown.contains("may not GET /x?"), "{shown}");
        assert_eq!(redactor.redact("Access to 1 is restricted"), "Access to 1 is restricted");
    }

    #[test]
    fn an_encoded_login_is_shown_no_more_than_a_plain_one() {
        let credential =
            Credential::basic_encoded("h.example", "dXNlcjpjYW5hcnk").unwrap().from("the file f");
        assert_eq!(credential.authorization.reveal(), "Basic dXNlcjpjYW5hcnk=");
        assert_eq!(credential.name(), "the login for h.example in the file f");
        let mut redactor = Redactor::default();
        credential.add_to(&mut redactor);
        assert!(!redactor.redact("user:canary canary").contains("canary"));
        for other in ["", "dXNlcg==", "%"] {
            assert!(Credential::basic_encoded("h", other).is_none(), "{other}");
        }
    }

    #[test]
    fn an_identity_token_is_no_authorization() {
        let credential = Credential::identity("h.example", "canary-identity");
        assert!(credential.authorization(&url("https://h.example/v2/")).is_none());
        assert_eq!(credential.identity_token().unwrap().reveal(), "canary-identity");
    }

    #[test]
    fn base64_matches_the_vectors_of_rfc_4648() {
        for (bytes, text) in
            [("", ""), ("f", "Zg=="), ("fo", "Zm8="), ("foo", "Zm9v"), ("foobar", "Zm9vYmFy")]
        {
            assert_eq!(base64(bytes.as_bytes()), text);
            assert_eq!(decoded_base64(text).as_deref(), Some(bytes.as_bytes()));
        }
        assert_eq!(decoded_base64("Zm9v YmFy"), None);
    }
}
