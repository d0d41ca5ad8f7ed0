use provision_http::TransportError;
use provision_http::credential_service::ServiceFuture;

use super::*;

/// Services that answer by a function of method and address, and remember what they were asked.
struct Fake<F>(F, Mutex<Vec<ServiceRequest>>);

impl<F: Fn(&str) -> Option<(u16, String)>> Fake<F> {
    fn new(answer: F) -> Self {
        Self(answer, Mutex::default())
    }

    fn asked(&self) -> Vec<String> {
        let asked = std::mem::take(&mut *self.1.lock().unwrap());
        asked.iter().map(|request| format!("{} {}", request.method, request.url.as_url())).collect()
    }
}

impl<F: Fn(&str) -> Option<(u16, String)> + Send + Sync> Services for Fake<F> {
    fn ask(&self, request: ServiceRequest) -> ServiceFuture<'_> {
        let answer = (self.0)(&format!("{} {}", request.method, request.url.as_url()));
        self.1.lock().unwrap().push(request);
        let answer = answer.map(|(status, body)| ServiceAnswer { status, body: body.into_bytes() });
        Box::pin(std::future::ready(answer.ok_or(TransportError::Connect)))
    }
}

/// Files of a home directory.
struct Folder(tempfile::TempDir);

impl Folder {
    fn new() -> Self {
        Self(tempfile::tempdir().unwrap())
    }

    fn at(&self, name: &str) -> String {
        self.0.path().join(name).to_str().unwrap().to_owned()
    }

    fn write(&self, name: &str, bytes: impl AsRef<[u8]>) -> String {
        std::fs::write(self.at(name), bytes).unwrap();
        self.at(name)
    }
}

fn nothing(_: &str) -> Option<(u16, String)> {
    None
}

/// A chain in this environment, whose clock is `now`.
fn chain_at(variables: &[(&str, &str)], now: &Arc<Mutex<SystemTime>>) -> Chain {
    let variables: HashMap<String, String> =
        variables.iter().map(|(name, value)| ((*name).to_owned(), (*value).to_owned())).collect();
    let now = now.clone();
    let clock = Box::new(move || *now.lock().unwrap());
    Chain::new(Box::new(move |name| variables.get(name).cloned()), clock)
}

fn chain(variables: &[(&str, &str)]) -> Chain {
    chain_at(variables, &Arc::new(Mutex::new(SystemTime::UNIX_EPOCH)))
}

fn found(chain: &Chain, services: &dyn Services, refused: Option<&S3Credentials>) -> Found {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    runtime.block_on(chain.credentials(services, refused))
}

fn keys_json(number: u32, seconds: u64) -> String {
    let minutes = seconds / 60;
    format!(
        "{{\"AccessKeyId\": \"ASIA{number}\", \"SecretAccessKey\": \"canary\", \"Token\": \"canary-session\", \
         \"Expiration\": \"1970-01-01T{:02}:{:02}:00Z\"}}",
        minutes / 60,
        minutes % 60
    )
}

const STS: &str = "<AssumeRoleWithWebIdentityResponse><AssumeRoleWithWebIdentityResult><Credentials><AccessKeyId>ASIASTS\
                   </AccessKeyId><SecretAccessKey>canary</SecretAccessKey><SessionToken>canary-session</SessionToken>\
                   <Expiration>2026-11-29T23:05:07Z</Expiration></Credentials></AssumeRoleWithWebIdentityResult>";

/// Answers as every place would.
fn everything(asked: &str) -> Option<(u16, String)> {
    Some(match asked {
        "POST https://sts.eu-west-1.amazonaws.com/" => (200, STS.to_owned()),
        "GET http://169.254.170.2/keys" => (200, keys_json(1, 36_000)),
        "PUT http://169.254.169.254/latest/api/token" => (200, "canary-machine".to_owned()),
        "GET http://169.254.169.254/latest/meta-data/iam/security-credentials/" => (200, "role\n".to_owned()),
        "GET http://169.254.169.254/latest/meta-data/iam/security-credentials/role" => {
            (200, keys_json(2, 36_000))
        }
        _ => return None,
    })
}

#[test]
fn the_places_are_asked_in_the_order_of_the_sdks() {
    let folder = Folder::new();
    let token = folder.write("token", "canary-identity\n");
    let files = folder
        .write("credentials", "[default]\naws_access_key_id = AKIFILE\naws_secret_access_key = canary\n");
    let all = [
        ("AWS_ACCESS_KEY_ID", "AKIVARIABLE"),
        ("AWS_SECRET_ACCESS_KEY", "canary"),
        ("AWS_WEB_IDENTITY_TOKEN_FILE", token.as_str()),
        ("AWS_ROLE_ARN", "arn:aws:iam::1:role/r"),
        ("AWS_SHARED_CREDENTIALS_FILE", files.as_str()),
        ("AWS_CONTAINER_CREDENTIALS_RELATIVE_URI", "/keys"),
        ("AWS_REGION", "eu-west-1"),
    ];
    let services = Fake::new(everything);
    for (from, key, source, asked) in [
        (0, "AKIVARIABLE", "AWS_ACCESS_KEY_ID", 0),
        (2, "ASIASTS", "AWS_WEB_IDENTITY_TOKEN_FILE and AWS_ROLE_ARN", 1),
        (4, "AKIFILE", "the profile default of the file ", 0),
        (5, "ASIA1", "AWS_CONTAINER_CREDENTIALS_RELATIVE_URI", 1),
        (6, "ASIA2", "the machine's metadata service (IMDS)", 3),
    ] {
        let keys = found(&chain(&all[from..]), &services, None).unwrap().unwrap();
        assert_eq!((keys.access_key.as_str(), keys.secret_key.clone()), (key, Secret::new("canary")));
        assert!(keys.source.starts_with(source), "{}", keys.source);
        assert_eq!(services.asked().len(), asked, "{key}");
    }
    let services = Fake::new(nothing);
    assert_eq!(found(&chain(&[]), &services, None), Ok(None));
    assert_eq!(services.asked(), ["PUT http://169.254.169.254/latest/api/token"; TRIES]);
    assert_eq!(found(&chain(&[("AWS_EC2_METADATA_DISABLED", "True")]), &services, None), Ok(None));
    assert_eq!(services.asked(), Vec::<String>::new());
}

#[test]
fn the_requests_carry_their_tokens_and_pass_the_proxies() {
    let folder = Folder::new();
    let token = folder.write("token", "canary-pod\n");
    let services = Fake::new(|asked: &str| {
        asked.ends_with("//169.254.170.23/v1/credentials").then(|| (200, keys_json(1, 36_000)))
    });
    let pod = chain(&[
        ("AWS_CONTAINER_CREDENTIALS_FULL_URI", "http://169.254.170.23/v1/credentials"),
        ("AWS_CONTAINER_AUTHORIZATION_TOKEN_FILE", token.as_str()),
        ("AWS_CONTAINER_AUTHORIZATION_TOKEN", "another"),
    ]);
    found(&pod, &services, None).unwrap().unwrap();
    let asked = services.1.lock().unwrap().remove(0);
    assert_eq!(asked.headers, [("authorization", Secret::new("canary-pod"))]);
    assert!(asked.direct);
    let mut redactor = Redactor::default();
    pod.add_to(&mut redactor);
    let shown = redactor.redact("canary-pod, canary-session, AWS4canary").into_owned();
    assert!(!shown.contains("canary-"), "{shown}");
    assert!(!format!("{pod:?}").contains("canary"));

    let services = Fake::new(everything);
    found(&chain(&[]), &services, None).unwrap().unwrap();
    let asked = std::mem::take(&mut *services.1.lock().unwrap());
    assert!(asked.iter().all(|request| request.direct && request.limit == METADATA_PATIENCE));
    let session = [("x-aws-ec2-metadata-token", Secret::new("canary-machine"))];
    assert!(asked[1..].iter().all(|request| request.headers == session));
}

#[test]
fn fault_148_keys_are_renewed_early_and_after_a_refusal() {
    let now = Arc::new(Mutex::new(SystemTime::UNIX_EPOCH));
    let set = |seconds| *now.lock().unwrap() = SystemTime::UNIX_EPOCH + Duration::from_secs(seconds);
    let issued = Mutex::new(0);
    let is_down = Mutex::new(false);
    let services = Fake::new(|_: &str| {
        if *is_down.lock().unwrap() {
            return Some((500, "canary".to_owned()));
        }
        let mut issued = issued.lock().unwrap();
        *issued += 1;
        Some((200, keys_json(*issued, 3600 * u64::from(*issued))))
    });
    let chain = chain_at(&[("AWS_CONTAINER_CREDENTIALS_FULL_URI", "http://localhost:9/")], &now);
    let key = |refused: Option<&S3Credentials>| found(&chain, &services, refused).unwrap().unwrap();
    let first = key(None);
    set(3600 - 301);
    assert_eq!(key(None), first);
    set(3600 - 300);
    let second = key(None);
    assert_eq!(second.access_key, "ASIA2");
    assert_eq!(key(Some(&first)), second, "an older refusal says nothing about newer keys");
    let third = key(Some(&second));
    assert_eq!(third.access_key, "ASIA3");

    // Keys that cannot be renewed are used to their end.
    *is_down.lock().unwrap() = true;
    set(3 * 3600 - 60);
    services.asked();
    assert_eq!(key(None), third);
    assert_eq!(key(None), third);
    assert_eq!(services.asked().len(), TRIES, "not with each request");
    set(3 * 3600);
    let error = found(&chain, &services, None).unwrap_err().to_string();
    assert!(error.contains("AWS_CONTAINER_CREDENTIALS_FULL_URI") && error.contains("500"), "{error}");
    assert!(!error.contains("canary"), "{error}");
    *is_down.lock().unwrap() = false;
    assert!(found(&chain, &services, None).is_err(), "the failure is kept for a while");
    set(3 * 3600 + 10);
    assert_eq!(key(None).access_key, "ASIA4");
}

#[test]
fn refused_keys_without_newer_ones_are_not_looked_for_with_each_request() {
    let now = Arc::new(Mutex::new(SystemTime::UNIX_EPOCH));
    let services = Fake::new(|_: &str| Some((200, keys_json(1, 36_000))));
    let chain = chain_at(&[("AWS_CONTAINER_CREDENTIALS_FULL_URI", "http://localhost:9/")], &now);
    let keys = found(&chain, &services, None).unwrap();
    for _ in 0..3 {
        assert_eq!(found(&chain, &services, keys.as_ref()).unwrap(), keys);
    }
    assert_eq!(services.asked().len(), 2);
    *now.lock().unwrap() += AGAIN;
    assert_eq!(found(&chain, &services, keys.as_ref()).unwrap(), keys);
    assert_eq!(services.asked().len(), 1);
}

#[test]
fn fault_147_places_that_cannot_be_used_are_named() {
    let folder = Folder::new();
    let config = folder.write(
        "config",
        "[profile sso]\nsso_session = s\n[profile role]\nrole_arn = r\nsource_profile = sso\n[profile failing]\n\
         credential_process = echo canary; exit 1\n[profile silent]\ncredential_process = echo '{}'\n",
    );
    let token = folder.write("token", "canary-identity");
    let refuses =
        Fake::new(|_: &str| Some((403, "<Error><Code>InvalidIdentityToken</Code>canary</Error>".to_owned())));
    let profile = |name| [("AWS_PROFILE", name), ("AWS_CONFIG_FILE", config.as_str())];
    let web = |file| [("AWS_WEB_IDENTITY_TOKEN_FILE", file), ("AWS_ROLE_ARN", "arn:r")];
    for (variables, names) in [
        (&[("AWS_ACCESS_KEY_ID", "a")][..], ["AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY is not set"]),
        (&[("AWS_SECRET_ACCESS_KEY", "canary")], ["AWS_SECRET_ACCESS_KEY", "AWS_ACCESS_KEY_ID is not set"]),
        (&profile("other"), ["the profile other (AWS_PROFILE)", "~/.aws/credentials"]),
        (&profile("sso"), ["the profile sso of the file ", "export-credentials"]),
        (&profile("role"), ["the profile role of the file ", "export-credentials"]),
        (&profile("failing"), ["credential_process of the profile failing", "failed"]),
        (&profile("silent"), ["credential_process of the profile silent", "printed no keys"]),
        (&web(&token), ["AWS_WEB_IDENTITY_TOKEN_FILE and AWS_ROLE_ARN", "403 (InvalidIdentityToken)"]),
        (&web("/nowhere/token"), ["AWS_WEB_IDENTITY_TOKEN_FILE", "/nowhere/token"]),
        (
            &[("AWS_CONTAINER_CREDENTIALS_FULL_URI", "http://10.0.0.1/keys")],
            ["AWS_CONTAINER_CREDENTIALS_FULL_URI", "correct it to https"],
        ),
        (
            &[("AWS_CONTAINER_CREDENTIALS_RELATIVE_URI", "/k")],
            ["AWS_CONTAINER_CREDENTIALS_RELATIVE_URI", "403"],
        ),
    ] {
        let error = found(&chain(variables), &refuses, None).unwrap_err().to_string();
        assert!(names.iter().all(|name| error.contains(name)), "{error}");
        assert!(!error.contains("canary"), "{error}");
    }
}

#[test]
fn a_profile_may_have_a_command_or_a_web_identity() {
    let folder = Folder::new();
    let keys = keys_json(7, 36_000).replace('"', "\\\"");
    let config = format!(
        "[profile command]\ncredential_process = /bin/echo \"{keys}\"\n[profile web]\nrole_arn = arn:r\n\
         web_identity_token_file = {}\nregion = eu-west-1\n",
        folder.write("token", "canary")
    );
    let config = folder.write("config", config);
    let services = Fake::new(everything);
    for (name, key) in [("command", "ASIA7"), ("web", "ASIASTS")] {
        let chain = chain(&[("AWS_PROFILE", name), ("AWS_CONFIG_FILE", &config)]);
        assert_eq!(found(&chain, &services, None).unwrap().unwrap().access_key, key);
    }
}

#[test]
fn endpoint_and_region_are_read_from_variables_then_from_the_profile() {
    let profile = "[default]\nregion = eu-west-1\nendpoint_url = https://profile.example\n";
    let folder = Folder::new();
    let path = folder.write("config", profile);
    let all = [
        ("AWS_ENDPOINT_URL_S3", "https://s3.example"),
        ("AWS_REGION", "us-west-2"),
        ("AWS_ENDPOINT_URL", "https://all.example"),
        ("AWS_DEFAULT_REGION", "us-east-2"),
        ("AWS_CONFIG_FILE", path.as_str()),
    ];
    let config = |variables: &[(&str, &str)]| Arc::new(chain(variables)).config(&mut Vec::new());
    for (from, endpoint, region) in [
        (0, Some("https://s3.example/"), Some("us-west-2")),
        (2, Some("https://all.example/"), Some("us-east-2")),
        (4, Some("https://profile.example/"), Some("eu-west-1")),
        (5, None, None),
    ] {
        let config = config(&all[from..]).unwrap();
        assert_eq!(config.endpoint.map(|url| url.to_string()).as_deref(), endpoint);
        assert_eq!(config.region.as_deref(), region);
    }
    let ignored = [("AWS_IGNORE_CONFIGURED_ENDPOINT_URLS", "true"), all[0], all[4]];
    assert!(config(&ignored).unwrap().endpoint.is_none());
    let error = config(&[("AWS_ENDPOINT_URL", "canary")]).unwrap_err().to_string();
    assert!(error.contains("AWS_ENDPOINT_URL") && !error.contains("canary"), "{error}");
}

#[test]
fn an_unreadable_file_of_keys_is_an_error_and_no_pipe_is_awaited() {
    let folder = Folder::new();
    folder.write("long", format!("[default]\naws_access_key_id = a\n# {}\n", "x".repeat(1 << 20)));
    let bytes = folder.write("bytes", b"[default]\nregion = \xff\n");
    let pipe = folder.at("pipe");
    rustix::fs::mknodat(
        rustix::fs::CWD,
        pipe.as_str(),
        rustix::fs::FileType::Fifo,
        rustix::fs::Mode::RUSR,
        0,
    )
    .unwrap();
    for name in ["pipe", "long", "bytes", ""] {
        let services = Fake::new(everything);
        let error =
            found(&chain(&[("AWS_SHARED_CREDENTIALS_FILE", &folder.at(name))]), &services, None).unwrap_err();
        assert!(error.source_name.contains(&folder.at(name)), "{error}");
        assert_eq!(services.asked(), Vec::<String>::new(), "no other place");
    }
    let without = chain(&[("AWS_SHARED_CREDENTIALS_FILE", "/dev/null"), ("AWS_CONFIG_FILE", "/dev/null")]);
    assert_eq!(found(&without, &Fake::new(nothing), None), Ok(None));
    let keys = [("AWS_ACCESS_KEY_ID", "a"), ("AWS_SECRET_ACCESS_KEY", "b")];
    let chain = chain(&[keys[0], keys[1], ("AWS_CONFIG_FILE", &bytes)]);
    assert!(found(&chain, &Fake::new(nothing), None).unwrap().is_some(), "the file is not needed");
}
