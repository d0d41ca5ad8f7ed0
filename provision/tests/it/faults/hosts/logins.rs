//! Logins of registries where docker and podman keep them: files, and helper programs.

use provision_testbed::hosts::oci::Registry;

use crate::lock_commands::has;
use crate::prelude::*;
use crate::secrets::{belongs_to, encode};

/// A registry with one private model, and the lock of that.
struct Private {
    site: BlockingOrigin,
    fixture: Fixture,
    registry: Registry,
}

impl Private {
    /// The names of its files begin with `netrc`: the search for secrets passes over them.
    fn new() -> Self {
        let site = start_origin("127.0.0.3");
        belongs_to(&site, encode(&format!("user:{MARK}-docker")).as_str());
        let registry = Registry::mount(&site, None);
        let mut fixture = Fixture::new();
        let (path, content) = ("team/models", Content::generated(1, 3000));
        let digest = registry.push(path, &content);
        fixture.model("x", &content, &[site.url(&format!("/v2/{path}/blobs/{digest}"))]);
        for folder in ["netrc-home/.docker", "netrc-docker", "netrc-bin"] {
            std::fs::create_dir_all(fixture.beside(folder)).unwrap();
        }
        Self { site, fixture, registry }
    }

    /// Requires the login at the token service; with `basic`, at the registry itself.
    fn guard(&self, basic: bool) {
        let login = padded(&encode(&format!("user:{MARK}-docker")));
        let login = format!("Basic {login}");
        if !basic {
            self.registry.guard_with("team/models", &login);
            return;
        }
        let headers = vec![("WWW-Authenticate".to_owned(), "Basic realm=\"private\"".to_owned())];
        let refusal = Fault::Status { code: 401, headers, body: "{}".into() };
        let is_other =
            move |request: &provision_testbed::Recorded, _| request.header("authorization") != Some(&login);
        self.site.inject("*", refusal.when(When::custom(is_other)));
    }

    fn write(&self, file: &str, text: &str) -> PathBuf {
        let path = self.fixture.beside(file);
        std::fs::write(&path, text.replace("HOST", &self.site.addr().to_string())).unwrap();
        path
    }

    /// A helper that notes what it is asked, and ends with this line of its script.
    fn helper(&self, name: &str, end: &str) {
        let log = self.fixture.beside("netrc-asked");
        let script = format!(
            "#!/bin/sh\necho \"$1 $(/bin/cat)\" >> '{}'\necho '{MARK}-why' >&2\n{end}\n",
            log.display()
        );
        write_program(self.fixture.beside(&format!("netrc-bin/docker-credential-{name}")), script);
    }

    fn fetch(&self, setting: impl FnOnce(&mut Command)) -> Ended {
        let mut command = fetch(&self.fixture, &["--retries", "1"]);
        command.env("HOME", self.fixture.beside("netrc-home"));
        command.env("PATH", format!("{}:/usr/bin:/bin", self.fixture.beside("netrc-bin").display()));
        command.env_remove("REGISTRY_AUTH_FILE");
        setting(&mut command);
        run(&mut command)
    }
}

fn padded(digits: &str) -> String {
    format!("{digits}{}", "=".repeat((4 - digits.len() % 4) % 4))
}

#[test]
fn fault_146_a_login_is_found_where_docker_and_podman_keep_it() {
    let auth = format!("{{\"auth\": \"{}\"}}", padded(&encode(&format!("user:{MARK}-docker"))));
    let said = format!("echo '{{\"Username\": \"user\", \"Secret\": \"{MARK}-docker\"}}'");
    for basic in [false, true] {
        for (file, text, variable) in [
            ("netrc-home/.docker/config.json", format!("{{\"auths\": {{\"HOST\": {auth}}}}}"), None),
            (
                "netrc-docker/config.json",
                "{\"credHelpers\": {\"HOST\": \"test\"}}".to_owned(),
                Some("DOCKER_CONFIG"),
            ),
            (
                "netrc-home/.docker/config.json",
                "{\"auths\": {\"HOST\": {}}, \"credsStore\": \"test\"}".to_owned(),
                None,
            ),
            (
                "netrc-auth.json",
                format!("{{\"auths\": {{\"HOST\": {{\"auth\": \"eDp5\"}}, \"HOST/team\": {auth}}}}}"),
                Some("REGISTRY_AUTH_FILE"),
            ),
        ] {
            let private = Private::new();
            private.guard(basic);
            private.helper("test", &said);
            let path = private.write(file, &text);
            private
                .fetch(|command| match variable {
                    Some("DOCKER_CONFIG") => {
                        command.env("DOCKER_CONFIG", private.fixture.beside("netrc-docker"));
                    }
                    Some(variable) => {
                        command.env(variable, path);
                    }
                    None => {}
                })
                .row(format!("{file}, {basic}"))
                .exits(0);
            private.fixture.assert_installed();
            let asked = std::fs::read_to_string(private.fixture.beside("netrc-asked")).unwrap_or_default();
            let expected =
                if text.contains("test") { format!("get {}\n", private.site.addr()) } else { String::new() };
            assert_eq!(asked, expected, "{file}");
        }
    }
}

#[test]
fn fault_146_a_wrong_login_is_named_with_its_file() {
    let private = Private::new();
    private.guard(false);
    private.write("netrc-home/.docker/config.json", "{\"auths\": {\"HOST\": {\"auth\": \"eDp5\"}}}");
    let ended = private.fetch(|_| {}).exits(6);
    has(&ended.err, &["does not know the login for 127.0.0.3", "/netrc-home/.docker/config.json"]);
    // Without any, the way out names docker.
    std::fs::remove_file(private.fixture.beside("netrc-home/.docker/config.json")).unwrap();
    private.fetch(|_| {}).exits(6);
}

#[test]
fn fault_149_a_helper_that_fails_is_a_warning_that_names_it() {
    for (helper, end, why) in [
        ("test", "exit 1", "the helper docker-credential-test failed"),
        ("test", "echo nonsense", "without Username and Secret"),
        ("missing", "", "docker-credential-missing is not installed"),
        ("../x", "", "a helper's name"),
    ] {
        let private = Private::new();
        private.helper("test", end);
        private.write("netrc-home/.docker/config.json", &format!("{{\"credsStore\": \"{helper}\"}}"));
        private.guard(false);
        let ended = private.fetch(|_| {}).exits(6);
        has(&ended.err, &["warning: ", why, "if it needs a login: "]);
        assert_eq!(ended.err.matches("warning: ").count(), 1, "{}", ended.err);

        // A public repository of the same registry.
        private.registry.guard("team/models");
        let ended = private.fetch(|_| {}).exits(0);
        has(&ended.err, &["warning: ", why]);
    }
    // A helper without a login for the registry is no failure.
    let private = Private::new();
    private.helper("test", "echo 'credentials not found in native keychain'; exit 1");
    private.write("netrc-home/.docker/config.json", "{\"credsStore\": \"test\"}");
    private.registry.guard("team/models");
    private.fetch(|_| {}).exits(0).err_lacks(&["warning"]);
}
