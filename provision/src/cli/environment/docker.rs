//! Logins of registries from the files of docker and podman, and from docker's helpers.
//!
//! A file is read when the first registry asks for a login. A helper runs for the registry that asks, once a run. The
//! rules are those of `docker login` and of containers-auth.json(5): the first file with a login for the repository
//! wins, and in it the longest name.

use std::collections::HashMap;
use std::fmt;
use std::io;
use std::process::Command;
use std::sync::{Mutex, OnceLock, PoisonError};

use camino::Utf8PathBuf;
use provision_http::{Credential, RegistryLogins};
use serde_json::Value;

use super::credential_program::{LONGEST, located, run};
use super::login_file;
use crate::cli::say;

/// The names of Docker Hub, and the one under which docker keeps its login.
const HUB: [&str; 3] = ["registry-1.docker.io", "index.docker.io", "docker.io"];
const HUB_SERVER: &str = "https://index.docker.io/v1/";
/// The user name with which a helper marks an identity token.
const IDENTITY: &str = "<token>";

/// The answer to a question for a login; the error is its cause.
type LoginLookup = Result<Option<Credential>, String>;

/// The files, in their order, and the helpers that they name.
pub(super) struct Logins {
    /// Each path, and the variable that names it.
    paths: Vec<(Utf8PathBuf, Option<&'static str>)>,
    /// The directories of helpers.
    search_path: String,
    files: OnceLock<Vec<(String, Result<Value, String>)>>,
    /// The answers of helpers, by helper and server.
    answers: Mutex<HashMap<(String, String), HelperAnswer>>,
}

impl fmt::Debug for Logins {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Logins").field("paths", &self.paths).finish_non_exhaustive()
    }
}

/// The answer of a helper, and the cause if it has failed.
type HelperAnswer = Result<Option<HelperLogin>, String>;

/// A login as a helper says it.
#[derive(Clone)]
struct HelperLogin {
    user: String,
    secret: String,
}

impl Logins {
    /// The files that these variables name.
    pub(super) fn of(variable: impl Fn(&str) -> Option<String>) -> Self {
        let home = variable("HOME").map(Utf8PathBuf::from);
        let at = |name: &'static str, below: &str| {
            let path = Utf8PathBuf::from(variable(name)?);
            Some((if below.is_empty() { path } else { path.join(below) }, Some(name)))
        };
        let at_home = |below: &str| Some((home.as_ref()?.join(below), None));
        let at_run = || {
            let user = rustix::process::getuid().as_raw();
            (Utf8PathBuf::from(format!("/run/containers/{user}/auth.json")), None)
        };
        let files = [
            at("REGISTRY_AUTH_FILE", "")
                .or_else(|| at("XDG_RUNTIME_DIR", "containers/auth.json"))
                .or_else(|| Some(at_run())),
            at("XDG_CONFIG_HOME", "containers/auth.json").or_else(|| at_home(".config/containers/auth.json")),
            at("DOCKER_CONFIG", "config.json").or_else(|| at_home(".docker/config.json")),
        ];
        Self::new(files.into_iter().flatten().collect(), variable("PATH").unwrap_or_default())
    }

    fn new(paths: Vec<(Utf8PathBuf, Option<&'static str>)>, search_path: String) -> Self {
        Self { paths, search_path, files: OnceLock::new(), answers: Mutex::default() }
    }

    /// The files that exist, in words and with their contents. The first call reads them.
    pub(super) fn files(&self) -> &[(String, Result<Value, String>)] {
        self.files.get_or_init(|| {
            let read = |(path, variable): &(Utf8PathBuf, Option<&str>)| {
                let named = variable.map_or_else(String::new, |name| format!(" ({name})"));
                let name = format!("the file {path}{named}");
                let value = match login_file::read(path) {
                    Err(error) if is_absent(&error) => return None,
                    Err(error) => Err(format!("{name} cannot be read: {error}")),
                    // The parser's message may quote the file, which holds passwords. An empty file is one without
                    // logins.
                    Ok(text) if text.is_empty() => Ok(Value::Null),
                    Ok(text) => serde_json::from_str(&text).map_err(|_| format!("{name} is not valid JSON")),
                };
                if let Err(why) = &value {
                    say(format_args!("warning: {why}; the logins in it are not used"));
                }
                Some((name, value))
            };
            self.paths.iter().filter_map(read).collect()
        })
    }

    /// The answer of a helper, which runs once for a server. A helper that fails is a warning: most repositories are
    /// public.
    fn ask(&self, helper: &str, server: &str) -> HelperAnswer {
        let key = (helper.to_owned(), server.to_owned());
        let mut answers = self.answers.lock().unwrap_or_else(PoisonError::into_inner);
        let answer = answers.entry(key).or_insert_with(|| {
            let answer = answer_of(helper, server, &self.search_path);
            if let Err(why) = &answer {
                say(format_args!("warning: {why}; the login that it may have for {server} is not used"));
            }
            answer
        });
        answer.clone()
    }
}

impl RegistryLogins for Logins {
    fn login(&self, registry: &str, repository: &str) -> LoginLookup {
        let mut unusable = None;
        for (name, file) in self.files() {
            let login = file.as_ref().map_err(String::clone);
            let login = login.and_then(|file| {
                let asked = LoginQuery { registry, repository, file: name };
                asked.login(file, &|helper, server| self.ask(helper, server))
            });
            match login {
                Ok(None) => {}
                Ok(login) => return Ok(login),
                Err(why) => unusable = unusable.or(Some(why)),
            }
        }
        unusable.map_or(Ok(None), Err)
    }
}

/// A file that is not there, also because a directory above it is none.
fn is_absent(error: &io::Error) -> bool {
    matches!(error.kind(), io::ErrorKind::NotFound | io::ErrorKind::NotADirectory)
}

/// Runs a helper.
fn answer_of(helper: &str, server: &str, search_path: &str) -> HelperAnswer {
    let name = format!("docker-credential-{helper}");
    let is_name = |byte: u8| byte.is_ascii_alphanumeric() || matches!(byte, b'-' | b'_' | b'.');
    if !helper.bytes().all(is_name) {
        return Err(
            "a helper's name in credHelpers or credsStore has other characters than a file name".to_owned()
        );
    }
    let Some(program) = located(&name, search_path) else {
        return Err(format!("the helper {name} is not installed in any directory of PATH"));
    };
    let answer = match run(Command::new(program).arg("get"), server.as_bytes(), LONGEST) {
        Ok(answer) => answer,
        Err(error) if error.kind() == io::ErrorKind::TimedOut => {
            return Err(format!("the helper {name} did not answer within {} s", LONGEST.as_secs()));
        }
        Err(error) => return Err(format!("the helper {name} cannot be started: {error}")),
    };
    if !answer.has_succeeded {
        // Its only error with a meaning (docker-credential-helpers), in any letter case.
        let text = String::from_utf8_lossy(&answer.out).to_lowercase();
        let is_unknown = text.contains("credentials not found");
        return if is_unknown { Ok(None) } else { Err(format!("the helper {name} failed; log in again")) };
    }
    let said: Option<HelperLogin> = serde_json::from_slice(&answer.out).ok().and_then(|value: Value| {
        let text = |name: &str| value.get(name)?.as_str().map(str::to_owned);
        Some(HelperLogin { user: text("Username")?, secret: text("Secret")? })
    });
    let said = said.ok_or_else(|| format!("the helper {name} gave an answer without Username and Secret"))?;
    Ok(Some(said).filter(|said| !said.secret.is_empty()))
}

/// A repository, and the file that is searched for its login.
struct LoginQuery<'a> {
    registry: &'a str,
    repository: &'a str,
    file: &'a str,
}

/// Asks a helper for a server.
type Ask<'a> = &'a dyn Fn(&str, &str) -> HelperAnswer;

impl LoginQuery<'_> {
    /// The login in `file`: a helper's, else the file's own.
    fn login(&self, file: &Value, ask: Ask<'_>) -> LoginLookup {
        let helper = self.longest(&file["credHelpers"], |value| !value.is_null());
        let helper = helper.unwrap_or(&file["credsStore"]).as_str().filter(|name| !name.is_empty());
        let mut failed = None;
        if let Some(helper) = helper {
            let server = if HUB.contains(&self.registry) { HUB_SERVER } else { self.registry };
            match ask(helper, server) {
                Ok(None) => {}
                Ok(Some(said)) => {
                    let source = format!("docker-credential-{helper}, which {} names", self.file);
                    let login = if said.user == IDENTITY {
                        self.token(&said.secret, Credential::identity)
                    } else {
                        Ok(Credential::basic(self.registry, &said.user, &said.secret))
                    };
                    return login.map(|login| Some(login.from(source)));
                }
                Err(why) => failed = Some(why),
            }
        }
        let has_login = |entry: &Value| entry.as_object().is_some_and(|entry| !entry.is_empty());
        let login = self.longest(&file["auths"], has_login).map(|entry| self.of_entry(entry)).transpose()?;
        match (login.flatten(), failed) {
            (None, Some(why)) => Err(why),
            (login, _) => Ok(login.map(|login| login.from(self.file))),
        }
    }

    /// The login of an entry of `auths`.
    fn of_entry(&self, entry: &Value) -> LoginLookup {
        let text = |name: &str| entry[name].as_str().filter(|text| !text.is_empty());
        if let Some(token) = text("identitytoken") {
            return self.token(token, Credential::identity).map(Some);
        }
        if let Some(token) = text("registrytoken") {
            return self.token(token, |host, token| Credential::bearer(host, None, token)).map(Some);
        }
        if let Some(encoded) = text("auth") {
            let why =
                || format!("auth for {} in {} is not the Base64 of user:password", self.registry, self.file);
            return Credential::basic_encoded(self.registry, encoded).ok_or_else(why).map(Some);
        }
        let plain = text("username").zip(text("password"));
        Ok(plain.map(|(user, password)| Credential::basic(self.registry, user, password)))
    }

    /// A token, if it can be sent.
    fn token<'t>(
        &self,
        token: &'t str,
        credential: impl Fn(String, &'t str) -> Credential,
    ) -> Result<Credential, String> {
        if token.bytes().all(|byte| byte.is_ascii_graphic()) {
            return Ok(credential(self.registry.to_owned(), token));
        }
        Err(format!("the token for {} in {} has characters that no token has", self.registry, self.file))
    }

    /// The value of the entry that covers the repository with the longest name.
    fn longest<'v>(&self, entries: &'v Value, is_usable: impl Fn(&Value) -> bool) -> Option<&'v Value> {
        let covering = entries.as_object()?.iter().filter(|(_, value)| is_usable(value));
        let covering = covering.filter_map(|(key, value)| Some((self.covered(key)?, value)));
        covering.max_by_key(|(length, _)| *length).map(|(_, value)| value)
    }

    /// The length of the path in a key that covers the repository; `None` for another key. Docker writes `HOST`,
    /// `HOST:PORT`, `https://HOST` or `https://HOST/v1/`; podman writes `HOST/NAMESPACE/NAME` as well.
    fn covered(&self, key: &str) -> Option<usize> {
        let plain = key.strip_prefix("https://").or_else(|| key.strip_prefix("http://"));
        let (host, path) = plain.unwrap_or(key).split_once('/').unwrap_or((plain.unwrap_or(key), ""));
        let (host, path) = (host.strip_suffix(":443").unwrap_or(host), path.trim_matches('/'));
        let is_hub = HUB.contains(&self.registry) && HUB.contains(&host);
        if !is_hub && !host.eq_ignore_ascii_case(self.registry) {
            return None;
        }
        if plain.is_some() || matches!(path, "" | "v1" | "v2") {
            return Some(0);
        }
        let rest = self.repository.strip_prefix(path)?;
        (rest.is_empty() || rest.starts_with('/')).then_some(path.len())
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    /// The login for a repository, as its `Debug` form with the host and the source, and the secrets by a redactor's
    /// look.
    fn login(file: &Value, registry: &str, repository: &str, ask: Ask<'_>) -> LoginLookup {
        LoginQuery { registry, repository, file: "the file f" }.login(file, ask)
    }

    fn no_helper(helper: &str, _: &str) -> HelperAnswer {
        panic!("{helper} is not asked")
    }

    fn has(login: &LoginLookup, expected: &Credential) -> bool {
        login.as_ref().is_ok_and(|login| login.as_ref() == Some(expected))
    }

    #[test]
    fn each_form_of_an_entry_is_a_login() {
        let host = "h.example:5000";
        let expected = Credential::basic(host, "user", "secret").from("the file f");
        for entry in [
            json!({"auth": "dXNlcjpzZWNyZXQ="}),
            json!({"auth": "dXNlcjpzZWNyZXQA"}),
            json!({"auth": "", "username": "user", "password": "secret"}),
        ] {
            let file = json!({"auths": {host: entry}});
            assert!(has(&login(&file, host, "a/b", &no_helper), &expected), "{entry}");
        }
        let file = json!({"auths": {host: {"auth": "eDo=", "identitytoken": "canary"}}});
        assert!(has(
            &login(&file, host, "a", &no_helper),
            &Credential::identity(host, "canary").from("the file f")
        ));
        let file = json!({"auths": {host: {"registrytoken": "canary"}}});
        let expected = Credential::bearer(host, None, "canary").from("the file f");
        assert!(has(&login(&file, host, "a", &no_helper), &expected));
        for entry in [json!({}), json!({"username": "user"}), json!({"email": "e"})] {
            assert_eq!(login(&json!({"auths": {host: entry}}), host, "a", &no_helper), Ok(None), "{entry}");
        }
        for entry in [json!({"auth": "canary%"}), json!({"identitytoken": "canary\n"})] {
            let why = login(&json!({"auths": {host: entry}}), host, "a", &no_helper).unwrap_err();
            assert!(why.contains("the file f") && why.contains(host) && !why.contains("canary"), "{why}");
        }
    }

    #[test]
    fn keys_are_read_as_docker_and_podman_write_them() {
        let found = |key: &str, registry: &str, repository: &str| {
            let file = json!({"auths": {key: {"auth": "dTpw"}}});
            matches!(login(&file, registry, repository, &no_helper), Ok(Some(_)))
        };
        for (key, registry) in [
            ("h.example", "h.example"),
            ("H.example", "h.example"),
            ("https://h.example", "h.example"),
            ("https://h.example/v2/", "h.example"),
            ("h.example/v1/", "h.example"),
            ("h.example:443", "h.example"),
            ("http://127.0.0.1:5000", "127.0.0.1:5000"),
            ("https://index.docker.io/v1/", "registry-1.docker.io"),
            ("docker.io", "registry-1.docker.io"),
            ("docker.io/team", "registry-1.docker.io"),
            ("h.example/team", "h.example"),
            ("h.example/team/models", "h.example"),
        ] {
            assert!(found(key, registry, "team/models"), "{key}");
        }
        for (key, registry) in [
            ("h.example:5000", "h.example"),
            ("h.example", "h.example:5000"),
            ("example", "h.example"),
            ("h.example/te", "h.example"),
            ("h.example/team/models/x", "h.example"),
            ("docker.io", "h.example"),
        ] {
            assert!(!found(key, registry, "team/models"), "{key}");
        }
        let file = json!({"auths": {
            "h.example": {"auth": "YTpw"}, "h.example/team": {"auth": "Yjpw"}, "h.example/team/x": {"auth": "Yzpw"},
        }});
        for (repository, user) in [("other/m", "a"), ("team/m", "b"), ("team/x", "c"), ("team/x/y", "c")] {
            let expected = Credential::basic("h.example", user, "p").from("the file f");
            assert!(has(&login(&file, "h.example", repository, &no_helper), &expected), "{repository}");
        }
    }

    #[test]
    fn a_helper_of_the_registry_comes_before_the_store() {
        let file = json!({
            "auths": {"own.example": {"auth": "dTpw"}, "h.example": {}},
            "credHelpers": {"h.example": "one", "own.example": "empty"}, "credsStore": "store",
        });
        let ask = |helper: &str, server: &str| {
            let user = format!("{helper} {server}");
            Ok((helper != "empty").then(|| HelperLogin { user, secret: "p".to_owned() }))
        };
        for (registry, user) in [
            ("h.example", "one h.example"),
            ("other.example", "store other.example"),
            ("registry-1.docker.io", "store https://index.docker.io/v1/"),
        ] {
            let helper = user.split(' ').next().unwrap();
            let source = format!("docker-credential-{helper}, which the file f names");
            let expected = Credential::basic(registry, user, "p").from(source);
            assert!(has(&login(&file, registry, "a", &ask), &expected), "{registry}");
        }
        let own = Credential::basic("own.example", "u", "p").from("the file f");
        assert!(has(&login(&file, "own.example", "a", &ask), &own), "the helper has none");
    }

    #[test]
    fn a_helper_may_give_an_identity_token_or_fail() {
        let file = json!({"credsStore": "s"});
        let ask = |_: &str, _: &str| {
            Ok(Some(HelperLogin { user: "<token>".to_owned(), secret: "canary".to_owned() }))
        };
        let source = "docker-credential-s, which the file f names";
        let expected = Credential::identity("h.example", "canary").from(source);
        assert!(has(&login(&file, "h.example", "a", &ask), &expected));
        let fails = |_: &str, _: &str| Err("the helper docker-credential-s failed".to_owned());
        assert!(login(&file, "h.example", "a", &fails).is_err());
        let file = json!({"credsStore": "s", "auths": {"h.example": {"auth": "dTpw"}}});
        assert!(matches!(login(&file, "h.example", "a", &fails), Ok(Some(_))), "the file's own login");
    }
}
