//! The environment: tokens, proxies, certificates. No other module reads it (I4); `docker` and `aws` get its variables
//! as a function.

#![expect(clippy::disallowed_methods, reason = "this is the place that reads the environment")]

mod aws;
mod credential_program;
mod docker;
mod login_file;

use std::io::IsTerminal as _;
use std::sync::{Arc, OnceLock};
use std::time::{SystemTime, UNIX_EPOCH};

use camino::{Utf8Path, Utf8PathBuf};
use rustls_pki_types::CertificateDer;

use super::exit::{Code, Failure};
use provision_core::source_url::SourceUrl;
use provision_engine::fetch::Store;
use provision_http::{ClientConfig, Credential, Credentials, Proxies, ProxyVariable, Registries, Roots};

/// The Hub's own hosts.
const HUB: [&str; 2] = ["huggingface.co", "hf.co"];
/// The own hosts of GitHub's API and of `ModelScope`.
const GITHUB_API: &str = "api.github.com";
const MODELSCOPE: [&str; 2] = ["modelscope.cn", "www.modelscope.cn"];
/// Civitai's own host.
const CIVITAI: &str = "civitai.com";

/// A variable's value; `None` if it is unset, empty or not text.
fn variable(name: &str) -> Option<String> {
    std::env::var(name).ok().filter(|value| !value.trim().is_empty())
}

/// Makes the options' variables ready for the parser of arguments. An empty one is unset, since environment files for
/// containers unset a variable that way. `PROVISION_ONLY`, an older name, counts if `PROVISION_GROUP` is unset. Call it
/// before any thread starts.
pub fn prepare_options() {
    let is_empty = |(name, value): &(std::ffi::OsString, std::ffi::OsString)| {
        value.is_empty() && name.to_string_lossy().starts_with("PROVISION_")
    };
    for (name, _) in std::env::vars_os().filter(is_empty) {
        // SAFETY: no other thread exists that could read the environment.
        unsafe { std::env::remove_var(name) };
    }
    if let (Some(groups), None) = (std::env::var_os("PROVISION_ONLY"), std::env::var_os("PROVISION_GROUP")) {
        // SAFETY: as above.
        unsafe { std::env::set_var("PROVISION_GROUP", groups) };
    }
}

/// The value of `--lock`'s variable, for completion, which runs before arguments are parsed.
pub(super) fn lock() -> Option<String> {
    variable("PROVISION_LOCK")
}

/// The program's image for the files of `provision init`; the program's own image sets it.
pub(super) fn image() -> Option<String> {
    variable("PROVISION_IMAGE")
}

fn either(lower: &str, upper: &str) -> Option<String> {
    variable(lower).or_else(|| variable(upper))
}

/// Returns true if `PROVISION_AS_OWNER` asks root to become the owner of the working directory.
pub fn wants_owner() -> bool {
    let is_no = |value: &str| {
        matches!(value.trim().to_lowercase().as_str(), "0" | "n" | "no" | "f" | "false" | "off")
    };
    variable("PROVISION_AS_OWNER").is_some_and(|value| !is_no(&value))
}

/// A file with a login, read once: the process may have no right to read it later.
type LoginFile = OnceLock<std::io::Result<String>>;

static HUB_TOKEN: LoginFile = OnceLock::new();
static NETRC: LoginFile = OnceLock::new();

fn login(file: &'static LoginFile, path: &Utf8Path) -> Result<&'static str, &'static std::io::Error> {
    file.get_or_init(|| login_file::read_named(path)).as_deref()
}

/// The files with logins of registries, each read once as well.
fn registry_logins() -> &'static Arc<docker::Logins> {
    static LOGINS: OnceLock<Arc<docker::Logins>> = OnceLock::new();
    LOGINS.get_or_init(|| Arc::new(docker::Logins::of(variable)))
}

/// The places of keys for S3, whose shared files are read once as well.
fn s3_keys() -> &'static Arc<aws::Chain> {
    static KEYS: OnceLock<Arc<aws::Chain>> = OnceLock::new();
    #[expect(clippy::disallowed_methods, reason = "keys expire at a time of the wall clock")]
    KEYS.get_or_init(|| Arc::new(aws::Chain::new(Box::new(variable), Box::new(SystemTime::now))))
}

/// Reads the files with logins. [`origin`] uses their present contents.
pub fn keep_logins() {
    for (file, path) in [(&HUB_TOKEN, hub_token_path()), (&NETRC, netrc_path())] {
        let _ = path.map(|path| login(file, &path));
    }
    registry_logins().files();
    s3_keys().keep_files();
}

/// Returns true if standard error is a terminal that wants colour (<https://no-color.org>).
pub fn wants_colour() -> bool {
    std::io::stderr().is_terminal()
        && variable("NO_COLOR").is_none()
        && variable("TERM").as_deref() != Some("dumb")
}

/// The HTTP configuration, and warnings for the user.
///
/// # Errors
/// Usage errors, before any network: an invalid value is never ignored. Errors do not repeat secrets.
pub fn origin() -> Result<(ClientConfig, Vec<String>), Failure> {
    let endpoints = [
        (&HUB[..1], endpoint("HF_ENDPOINT")?),
        (&[GITHUB_API][..], endpoint("GITHUB_API_URL")?),
        (&MODELSCOPE[..], endpoint("MODELSCOPE_ENDPOINT")?),
    ];
    let mut warnings = Vec::new();
    let [hub, github, modelscope] = endpoints.each_ref().map(|(_, endpoint)| endpoint.as_ref());
    let replaced = endpoints.iter().flat_map(|(hosts, endpoint)| {
        let endpoint = endpoint.iter();
        endpoint.flat_map(|url| hosts.iter().map(|host| ((*host).to_owned(), url.clone())))
    });
    let s3 = s3_keys().config(&mut warnings)?;
    let config = ClientConfig {
        s3,
        credentials: credentials([hub, github, modelscope], &mut warnings)?,
        registries: Registries::of(registry_logins().clone()),
        proxies: proxies(),
        roots: roots()?,
        endpoints: replaced.collect(),
        ..ClientConfig::default()
    };
    Ok((config, warnings))
}

/// The HTTP configuration, read when the first request is made. Its warnings are printed once.
#[derive(Debug, Default)]
pub struct Network(Option<ClientConfig>);

impl Network {
    /// The same as [`origin`].
    ///
    /// # Errors
    /// As [`origin`].
    pub fn config(&mut self) -> Result<ClientConfig, Failure> {
        if let Some(config) = &self.0 {
            return Ok(config.clone());
        }
        let (config, warnings) = origin()?;
        for warning in warnings {
            super::say(format_args!("warning: {warning}"));
        }
        Ok(self.0.insert(config).clone())
    }
}

fn endpoint(name: &str) -> Result<Option<SourceUrl>, Failure> {
    let Some(text) = variable(name) else { return Ok(None) };
    let unusable = |error| Failure::new(Code::Usage, format!("{name} is not an address: {error}"));
    text.trim().parse().map(Some).map_err(unusable)
}

/// `endpoints`: the addresses in place of the Hub, GitHub's API and `ModelScope`.
fn credentials(
    [hub, github, modelscope]: [Option<&SourceUrl>; 3],
    warnings: &mut Vec<String>,
) -> Result<Credentials, Failure> {
    let mut credentials = Credentials::none();
    let mut add = |token: Option<Token>, hosts: &[&str], endpoint: Option<&SourceUrl>| {
        let Some(Token { token, source }) = token else { return };
        for host in hosts {
            credentials.add(Credential::bearer(*host, None, &token).from(&source));
        }
        if let Some(url) = endpoint {
            let port = url.as_url().port_or_known_default();
            credentials.add(Credential::bearer(url.host(), port, &token).from(&source));
        }
    };
    add(hub_token()?, &HUB, hub);
    let github_token =
        token_of("GITHUB_TOKEN")?.map_or_else(|| token_of("GH_TOKEN"), |token| Ok(Some(token)))?;
    add(github_token, &[GITHUB_API], github);
    add(token_of("MODELSCOPE_API_TOKEN")?, &MODELSCOPE, modelscope);
    add(token_of("CIVITAI_TOKEN")?, &[CIVITAI], None);
    match netrc()? {
        Netrc::Logins { logins, file } => {
            for (host, login, password) in logins {
                credentials.add(Credential::basic(host, &login, &password).from(&file));
            }
        }
        Netrc::Unusable(why) => {
            warnings.push(format!("{why}; the logins in it are not used"));
            credentials.set_unread(why);
        }
    }
    Ok(credentials)
}

/// The user's cache: `$XDG_CACHE_HOME/provision`, else `~/.cache/provision`. The XDG specification ignores relative
/// paths. A user without a home, such as a random one of a container with `HOME=/`, has none.
pub fn user_cache() -> Option<Utf8PathBuf> {
    let absolute = |name| variable(name).map(Utf8PathBuf::from).filter(|path| path.is_absolute());
    let home = || absolute("HOME").filter(|home| home != "/");
    let caches = absolute("XDG_CACHE_HOME").or_else(|| Some(home()?.join(".cache")))?;
    Some(caches.join("provision"))
}

/// The Hub's cache, if a variable of the Hub's own client says where it is. The default place below the home is not
/// taken: a container's image sets one of these if it has a cache.
pub fn hub_cache() -> Option<Store> {
    let named = |name: &'static str, below| {
        let path = Utf8PathBuf::from(variable(name)?);
        Some(Store { path: if below { path.join("hub") } else { path }, variable: Some(name) })
    };
    named("HF_HUB_CACHE", false)
        .or_else(|| named("HUGGINGFACE_HUB_CACHE", false))
        .or_else(|| named("HF_HOME", true))
}

/// The value of a variable that a user's own file names, also an empty one.
pub(super) fn named(name: &str) -> Option<String> {
    // It would be an error, and no variable has such a name.
    if name.is_empty() || name.contains(['=', '\0']) { None } else { std::env::var(name).ok() }
}

/// The home of a user, by name; of this user for an empty name, as Python's `expanduser` finds it.
pub(super) fn home_of(user: &str) -> Option<String> {
    if let ("", Some(home)) = (user, named("HOME")) {
        return Some(home);
    }
    let number = rustix::process::getuid().as_raw().to_string();
    let users = std::fs::read_to_string("/etc/passwd").ok()?;
    users.lines().find_map(|line| {
        let fields: Vec<&str> = line.split(':').collect();
        let is_meant =
            if user.is_empty() { fields.get(2) == Some(&&*number) } else { fields.first() == Some(&user) };
        fields.get(5).filter(|_| is_meant).map(|home| (*home).to_owned())
    })
}

/// A token, and the variable or file that it came from.
struct Token {
    token: String,
    source: String,
}

/// A token goes into a header. A value that cannot (a whole pasted file, say) is a mistake and is refused.
fn check_token(source: &str, token: String) -> Result<String, Failure> {
    if token.bytes().all(|b| b.is_ascii_graphic()) {
        return Ok(token);
    }
    Err(Failure::new(
        Code::Usage,
        format!("{source} has white space or other characters that no token has; set it again"),
    ))
}

fn token_of(name: &str) -> Result<Option<Token>, Failure> {
    let token = variable(name).map(|token| check_token(name, token.trim().to_owned())).transpose()?;
    Ok(token.map(|token| Token { token, source: name.to_owned() }))
}

/// `HF_TOKEN`, else the file `HF_TOKEN_PATH`, else `$HF_HOME/token`, as the Hub's own client reads them. A missing file
/// means no token: a build without the secret is no error.
fn hub_token() -> Result<Option<Token>, Failure> {
    if let Some(token) = token_of("HF_TOKEN")? {
        return Ok(Some(token));
    }
    let Some(path) = hub_token_path() else { return Ok(None) };
    match login(&HUB_TOKEN, &path) {
        Ok(token) if token.trim().is_empty() => Ok(None),
        Ok(token) => {
            let token = check_token(path.as_str(), token.trim().to_owned())?;
            Ok(Some(Token { token, source: format!("the file {path}") }))
        }
        Err(error) if error.kind() == std::io::ErrorKind::NotFound || variable("HF_TOKEN_PATH").is_none() => {
            Ok(None)
        }
        Err(error) => Err(Failure::new(
            Code::Usage,
            format!("the token file {path} (HF_TOKEN_PATH) cannot be read: {error}"),
        )),
    }
}

/// The file of the Hub's token, which may be missing.
pub fn hub_token_path() -> Option<Utf8PathBuf> {
    let cache = || match variable("XDG_CACHE_HOME") {
        Some(cache) => Some(Utf8PathBuf::from(cache)),
        None => variable("HOME").map(|home| Utf8PathBuf::from(home).join(".cache")),
    };
    let home = || variable("HF_HOME").map(Utf8PathBuf::from).or_else(|| Some(cache()?.join("huggingface")));
    variable("HF_TOKEN_PATH").map(Utf8PathBuf::from).or_else(|| Some(home()?.join("token")))
}

/// The logins of a netrc file.
enum Netrc {
    /// Host, login, password; and the file in words.
    Logins { logins: Vec<(String, String, String)>, file: String },
    /// The default file cannot be used, with the cause. Most locks need no login, and the error of one that does says
    /// so.
    Unusable(String),
}

/// Logins by host. The `default` entry is ignored: it would send a password to every host in a lock.
fn netrc() -> Result<Netrc, Failure> {
    let Some(path) = netrc_path() else {
        return Ok(Netrc::Logins { logins: Vec::new(), file: String::new() });
    };
    let usage = variable("NETRC").is_some();
    let what = format!("the netrc file {path}{}", if usage { " (NETRC)" } else { "" });
    let unusable = |why: String| {
        if usage { Err(Failure::new(Code::Usage, why)) } else { Ok(Netrc::Unusable(why)) }
    };
    let text = match login(&NETRC, &path) {
        Ok(text) => text,
        Err(error) if !usage && error.kind() == std::io::ErrorKind::NotFound => {
            return Ok(Netrc::Logins { logins: Vec::new(), file: what });
        }
        Err(error) => return unusable(format!("{what} cannot be read: {error}")),
    };
    // The parser's message may quote the file, which holds passwords.
    let Ok(parsed) = text.parse::<netrc::Netrc>() else {
        return unusable(format!(
            "{what} does not parse; its lines look like `machine HOST login NAME password WORD`"
        ));
    };
    let entry = |(host, login): (String, netrc::Authenticator)| (host, login.login, login.password);
    let hosts = parsed.hosts.into_iter().filter(|(host, _)| host != "default");
    Ok(Netrc::Logins { logins: hosts.map(entry).collect(), file: what })
}

/// The netrc file.
fn netrc_path() -> Option<Utf8PathBuf> {
    let home = || variable("HOME").map(|home| Utf8PathBuf::from(home).join(".netrc"));
    variable("NETRC").map(Utf8PathBuf::from).or_else(home)
}

/// The usual proxy variables. `HTTP_PROXY` in capitals is ignored where a web server may have set it from a request's
/// header (CVE-2016-5385).
fn proxies() -> Proxies {
    let first = |names: &[&'static str]| {
        let set = |name: &&'static str| Some((*name, variable(name)?));
        names.iter().find_map(set).map(|(name, value)| {
            let value = if value.contains("://") { value } else { format!("http://{value}") };
            ProxyVariable { name, value }
        })
    };
    let is_cgi = variable("REQUEST_METHOD").is_some();
    let http: &[_] = if is_cgi { &["http_proxy"] } else { &["http_proxy", "HTTP_PROXY"] };
    Proxies {
        http: first(http).or_else(|| first(&["all_proxy", "ALL_PROXY"])),
        https: first(&["https_proxy", "HTTPS_PROXY", "all_proxy", "ALL_PROXY"]),
        except: either("no_proxy", "NO_PROXY"),
    }
}

/// `SSL_CERT_FILE` and `SSL_CERT_DIR` if set, else the system's store, else the bundled one.
fn roots() -> Result<Roots, Failure> {
    let (file, directory) = (variable("SSL_CERT_FILE"), variable("SSL_CERT_DIR"));
    if file.is_none() && directory.is_none() {
        let system = rustls_native_certs::load_native_certs();
        return Ok(if system.certs.is_empty() { Roots::Bundled } else { Roots::Only(system.certs) });
    }
    let mut certificates = Vec::new();
    if let Some(file) = &file {
        certificates.extend(certificates_at("SSL_CERT_FILE", Some(Utf8Path::new(file)), &[])?);
    }
    if let Some(directories) = &directory {
        let directories: Vec<&str> = directories.split(':').filter(|path| !path.is_empty()).collect();
        certificates.extend(certificates_at("SSL_CERT_DIR", None, &directories)?);
    }
    Ok(Roots::Only(certificates))
}

/// All certificates in the directories. Finding none is an error: the variable asks for these and no others.
fn certificates_at(
    variable: &str,
    file: Option<&Utf8Path>,
    directories: &[&str],
) -> Result<Vec<CertificateDer<'static>>, Failure> {
    let mut loaded = file
        .map(|path| rustls_native_certs::load_certs_from_paths(Some(path.as_std_path()), None))
        .unwrap_or_default();
    for directory in directories {
        let found = rustls_native_certs::load_certs_from_paths(None, Some(std::path::Path::new(directory)));
        loaded.certs.extend(found.certs);
        loaded.errors.extend(found.errors);
    }
    if loaded.certs.is_empty() {
        let value = file.map_or_else(|| directories.join(":"), ToString::to_string);
        let why = loaded.errors.first().map_or("it contains no certificate".to_owned(), ToString::to_string);
        return Err(Failure::new(Code::Usage, format!("{variable} {value} cannot be used: {why}")));
    }
    Ok(loaded.certs)
}

/// The time, in seconds since 1970.
#[expect(clippy::disallowed_methods, reason = "ages of files need the time")]
pub fn now() -> i64 {
    let since = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    i64::try_from(since.as_secs()).unwrap_or(i64::MAX)
}
