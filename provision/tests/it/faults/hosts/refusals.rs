//! Refusals: each cause has its message, which names the login's variable or file if the login is the cause.

use provision_testbed::hosts::civitai::{Civitai, File, Version};
use provision_testbed::hosts::oci::Registry;

use crate::both_clients::BOTH;
use crate::lock_commands::{Fixture, has};
use crate::prelude::*;

/// A refusal with these headers and this body.
fn refusal(code: u16, headers: &[(&str, &str)], body: &str) -> Fault {
    let headers = headers.iter().map(|(name, value)| ((*name).to_owned(), (*value).to_owned())).collect();
    Fault::Status { code, headers, body: body.to_owned().into() }
}

fn json(code: u16, body: &str) -> Fault {
    refusal(code, &[("Content-Type", "application/json")], body)
}

/// The three answers of the Hub to a token that is unknown, that lacks access, and that sees no such repository.
fn of_the_hub() -> [(Fault, i32, &'static str); 3] {
    let answer = |code, name: &'static str, message| {
        let headers = [("X-Error-Code", name), ("X-Error-Message", message)];
        refusal(code, &headers[usize::from(name.is_empty())..], "{}")
    };
    [
        (answer(401, "", "Invalid credentials in Authorization header"), 6, "does not know"),
        (answer(403, "GatedRepo", "Access to model o/r is restricted"), 6, "accept the licence at"),
        (answer(404, "RepoNotFound", "Repository not found"), 4, "no such repository"),
    ]
}

/// Sets a token for a command.
type Setting<'a> = &'a dyn Fn(&mut Command);

#[test]
fn fault_123_a_hub_token_is_told_from_access_and_absence() {
    let fixture = Fixture::new();
    fixture.hub.commit("o/r", "main", &[("vae/x.bin", Content::generated(1, 3000))]);
    fixture.run(0, &["lock", "add", "hf:o/r/vae/x.bin"]);
    let token = format!("{MARK}-hub");
    std::fs::write(fixture.path("a-token"), &token).unwrap();
    let file = fixture.path("a-token");
    let variable: Setting<'_> = &|command| _ = command.env("HF_TOKEN", &token);
    let path: Setting<'_> = &|command| _ = command.env("HF_TOKEN_PATH", &file);
    for (answer, code, says) in of_the_hub() {
        fixture.site.replace_faults("*", answer);
        for (set, name) in
            [(variable, "the token in HF_TOKEN"), (path, &format!("the file {}", file.display()))]
        {
            for args in [
                &["fetch", "--progress", "plain"][..],
                &["ensure", "--dest", "elsewhere"],
                &["lock", "check"],
                &["lock", "add", "hf:o/r/vae/x.bin"],
            ] {
                let mut command = fixture.command(args);
                set(&mut command);
                let Ended { err, .. } = run(&mut command).exits(code);
                has(&err, &[says, name]);
                let others = of_the_hub().map(|(.., says)| says).into_iter().filter(|other| *other != says);
                assert!(others.into_iter().all(|other| !err.contains(other)), "{args:?}: {err}");
            }
        }
    }
}

#[test]
fn fault_123_each_host_has_three_messages_that_name_the_login() {
    let fixture = Fixture::new();
    std::fs::write(fixture.path("netrc"), format!("machine 127.0.0.1 login me password {MARK}-netrc\n"))
        .unwrap();
    let netrc = format!("the login for 127.0.0.1 in the netrc file {}", fixture.path("netrc").display());
    let plain = fixture.site.url("/vae/x.bin");
    let blob = fixture.site.url(&format!("/v2/models/vae/blobs/sha256:{}", "0".repeat(64)));
    for (variable, source, name) in [
        (("GITHUB_TOKEN", "GITHUB_API_URL"), "github:o/r@v1/vae.bin", "the token in GITHUB_TOKEN"),
        (("GH_TOKEN", "GITHUB_API_URL"), "github:o/r@v1/vae.bin", "the token in GH_TOKEN"),
        (
            ("MODELSCOPE_API_TOKEN", "MODELSCOPE_ENDPOINT"),
            "modelscope:o/r/vae/x.bin",
            "the token in MODELSCOPE_API_TOKEN",
        ),
        (("", ""), &plain, &netrc),
        (("", ""), &blob, &netrc),
    ] {
        let mut texts = Vec::new();
        for (status, code, says) in [(401, 6, "does not know"), (403, 6, "account may not"), (404, 4, "")] {
            fixture.site.replace_faults("*", json(status, r#"{"message": "It says so"}"#));
            let args = ["lock", "add", source, "--path", "vae/x.bin"];
            let mut command = fixture.command(&args);
            if variable.0.is_empty() {
                command.env("NETRC", fixture.path("netrc"));
            } else {
                command.env(variable.0, format!("{MARK}-token")).env(variable.1, fixture.site.url(""));
            }
            let err = run(&mut command).exits(code).err;
            let says = if status == 403 && source.starts_with("github:") {
                "may not read the repository"
            } else {
                says
            };
            has(&err, &[name, says, "It says so"]);
            texts.push(err.replace(&status.to_string(), ""));
        }
        assert!(texts[0] != texts[1] && texts[1] != texts[2] && texts[0] != texts[2], "{texts:?}");
    }
}

#[test]
fn fault_123_a_registrys_login_is_told_from_access_and_absence() {
    let site = BlockingOrigin::start(OriginConfig::default()).unwrap();
    let registry = Registry::mount(&site, None);
    let digest = registry.push("models/vae", &Content::generated(1, 1000));
    registry.guard_with("models/vae", "Basic dTpw");
    let blob = |digest: &str| site.url(&format!("/v2/models/vae/blobs/{digest}"));
    let refused = |password: &str, digest: &str, says: &str| {
        let mut config = ClientConfig::default();
        config.credentials.add(Credential::basic("127.0.0.1", "u", password).from("the netrc file /n"));
        for over in BOTH {
            let error = over.get(&config, &blob(digest)).unwrap_err().to_string();
            has(&error, &["the login for 127.0.0.1 in the netrc file /n", says]);
        }
    };
    refused("wrong", &digest, "does not know");
    let missing = format!("sha256:{}", "0".repeat(64));
    refused("p", &missing, "BLOB_UNKNOWN: blob unknown to registry); the registry has no such blob, or");
    let challenge = format!("Bearer realm=\"{}\",service=\"testbed\"", site.url("/token"));
    let denied = r#"{"errors": [{"code": "DENIED", "message": "requested access is denied"}]}"#;
    let path = format!("/v2/models/vae/blobs/{digest}");
    site.inject(&path, refusal(401, &[("WWW-Authenticate", &challenge)], denied));
    refused("p", &digest, "(DENIED: requested access is denied); the host knows");
}

#[test]
fn fault_123_civitais_login_page_is_a_refusal() {
    let start = || BlockingOrigin::start(OriginConfig::default()).unwrap();
    let (site, store) = (start(), start());
    let civitai = Civitai::mount(&site, &store);
    let file = File {
        name: "x.safetensors".to_owned(),
        content: Content::generated(1, 1000),
        precision: None,
        is_hashed: true,
    };
    let token = Some("good".to_owned());
    let version = Version { kind: "LORA".to_owned(), name: "x".to_owned(), files: vec![file], token };
    civitai.publish(1, version);
    let mut config = ClientConfig {
        endpoints: vec![("civitai.com".to_owned(), site.url("").parse().unwrap())],
        ..ClientConfig::default()
    };
    for over in BOTH {
        let error = over.get(&config, "https://civitai.com/api/download/models/1").unwrap_err();
        assert!(error.is_refusal() && error.to_string().contains("set CIVITAI_TOKEN"), "{over:?}: {error}");
    }
    let credential = Credential::bearer("127.0.0.1", Some(site.addr().port()), "wrong").from("CIVITAI_TOKEN");
    config.credentials.add(credential);
    for over in BOTH {
        let error = over.get(&config, "https://civitai.com/api/download/models/1").unwrap_err().to_string();
        assert!(error.contains("does not know the token in CIVITAI_TOKEN"), "{over:?}: {error}");
    }
}

#[test]
fn fault_100_a_refusal_beyond_logins_blames_none() {
    let fixture = Fixture::new();
    let login = format!("{MARK}-netrc");
    std::fs::write(fixture.path("netrc"), format!("machine 127.0.0.1 login me password {login}\n")).unwrap();
    let page = "<html><head><title>Just a moment...</title></head></html>";
    let early = r#"{"error": "Early Access", "message": "The creator has disabled downloads"}"#;
    let region =
        refusal(403, &[("Content-Type", "text/plain; charset=utf-8")], "Not available in your region.\nBye");
    for (answer, code, says) in [
        (refusal(403, &[("cf-mitigated", "challenge")], page), 6, &["challenge", "Just a moment"][..]),
        (refusal(503, &[("CF-Mitigated", "Challenge")], page), 6, &["challenge"]),
        (refusal(405, &[("x-amzn-waf-action", "captcha")], ""), 6, &["challenge"]),
        (
            refusal(403, &[], "<html><title>Attention Required! | Cloudflare</title>"),
            6,
            &["challenge", "Attention"],
        ),
        (json(403, early), 6, &["early access", "The creator has disabled downloads"]),
        (
            json(451, r#"{"errors": [{"code": "BLOCKED", "message": "by law"}]}"#),
            4,
            &["region", "BLOCKED: by law"],
        ),
        (region, 6, &["region of this network", "Not available in your region."]),
    ] {
        fixture.site.replace_faults("/vae/x.bin", answer);
        let url = fixture.site.url("/vae/x.bin");
        let entry = format!("url = \"{url}\"\nsize = 9\nsha256 = \"{}\"", "0".repeat(64));
        std::fs::write(
            fixture.path("models.lock"),
            format!("version = 1\n[[model]]\npath = \"x\"\n{entry}\n"),
        )
        .unwrap();
        for args in [&["fetch"][..], &["lock", "add", &url]] {
            let ended =
                run(fixture.command(args).env("NETRC", fixture.path("netrc")).env("PROVISION_RETRIES", "1"));
            let err = ended.exits(code).err;
            has(&err, says);
            assert!(!err.contains("netrc") && !err.contains("does not know"), "{args:?}: {err}");
        }
    }
}

#[test]
fn fault_100_the_hosts_reason_is_short_harmless_and_redacted() {
    let fixture = Fixture::new();
    let login = format!("{MARK}-netrc");
    std::fs::write(fixture.path("netrc"), format!("machine 127.0.0.1 login me password {login}\n")).unwrap();
    let message = format!("no\\u202e\\u001b[2J {login} {}", "very long ".repeat(500));
    let url = fixture.site.url("/vae/x.bin");
    fixture.site.inject("/vae/x.bin", json(403, &format!("{{\"message\": \"{message}\"}}")));
    let args = ["lock", "add", &url];
    let Ended { err, .. } = run(fixture.command(&args).env("NETRC", fixture.path("netrc"))).exits(6);
    has(&err, &["no", "very long"]);
    assert!(err.len() < 800 && !err.contains(['\u{202e}', '\u{1b}']), "{err}");
}
