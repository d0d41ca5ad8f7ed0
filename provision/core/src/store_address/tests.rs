//! The forms of addresses, and what their errors say.

use super::*;

const SHA: &str = "a70580f0213e67967ee9c95f05bb400e8fb08307e017a924bf3441223e023d1f";

fn parse(text: &str) -> Result<StoreAddress, StoreAddressError> {
    StoreAddress::parse(text, &|name| match name {
        "SAS" => Some("?sv=1&sig=canary%2B".to_owned()),
        "EMPTY" => Some(String::new()),
        "ODD" => Some("can ary".to_owned()),
        _ => None,
    })
}

fn url(text: &str) -> SourceUrl {
    let (path, sha256) = ("vae/a b#é.bin".parse().unwrap(), SHA.parse().unwrap());
    parse(text).unwrap().url_of(&path, 5, &sha256).unwrap()
}

#[test]
fn a_template_is_expanded_by_digest_size_and_path() {
    for (text, expanded) in [
        ("https://h/m/{sha256}", format!("https://h/m/{SHA}")),
        ("HTTP://h:81/{size}/{sha256}?x={size}", format!("http://h:81/5/{SHA}?x=5")),
        ("https://h/m/{path}", "https://h/m/vae/a%20b%23%C3%A9.bin".to_owned()),
        ("https://h/get?f={path}", "https://h/get?f=vae%2Fa%20b%23%C3%A9.bin".to_owned()),
        ("https://h/{sha256}?{env:SAS}", format!("https://h/{SHA}?sv=1&sig=canary%2B")),
        ("http://127.0.0.1:1/{sha256}?{env:SAS}", format!("http://127.0.0.1:1/{SHA}?sv=1&sig=canary%2B")),
        ("https://h/v2/m/blobs/sha256:{sha256}?ns=r", format!("https://h/v2/m/blobs/sha256:{SHA}?ns=r")),
    ] {
        assert_eq!(url(text).as_url().as_str(), expanded, "{text}");
    }
}

#[test]
fn a_list_has_an_address_where_its_digest_is_enough() {
    let list = |text: &str| parse(text).unwrap().source_of_list(&SHA.parse().unwrap());
    for (text, expanded) in [
        ("https://h/m/{sha256}?{env:SAS}", format!("https://h/m/{SHA}?sv=1&sig=canary%2B")),
        ("oci://r.example/m", format!("https://r.example/v2/m/blobs/sha256:{SHA}")),
        ("file:///mnt/m", format!("file:///mnt/m/{SHA}")),
    ] {
        assert_eq!(list(text).unwrap().as_url().as_str(), expanded, "{text}");
    }
    assert_eq!(list("s3://b/p").unwrap().object().unwrap().key, format!("p/{SHA}"));
    for text in ["https://h/{path}", "https://h/{size}/{sha256}", "https://h/{infohash}", "s3://b/{path}"] {
        assert_eq!(list(text), None, "{text}");
    }
}

#[test]
fn a_registry_uses_plain_http_on_this_machine_only() {
    for (text, expanded) in [
        ("oci://r.example/team/models", format!("https://r.example/v2/team/models/blobs/sha256:{SHA}")),
        ("oci://localhost:5000/m", format!("http://localhost:5000/v2/m/blobs/sha256:{SHA}")),
        ("oci://[::1]:5000/m", format!("http://[::1]:5000/v2/m/blobs/sha256:{SHA}")),
        (
            "oci://10.0.0.1:5000/m?ns=r.example:81",
            format!("https://10.0.0.1:5000/v2/m/blobs/sha256:{SHA}?ns=r.example:81"),
        ),
    ] {
        assert_eq!(url(text).as_url().as_str(), expanded, "{text}");
    }
}

#[test]
fn a_bucket_names_objects_and_what_is_needed_for_their_endpoint() {
    let object = |text| (**url(text).object().unwrap()).clone();
    assert_eq!(object("s3://b/p/q/").key, format!("p/q/{SHA}"));
    assert_eq!(object("s3://b").key, SHA);
    assert_eq!(object("s3://b/x/{path}").key, "x/vae/a b#é.bin");
    let all = object("s3://b/p?endpoint=http://minio:9000&region=eu-1&style=virtual");
    assert_eq!(all.endpoint.unwrap().as_str(), "http://minio:9000/");
    assert_eq!((all.region.as_deref(), all.style), (Some("eu-1"), Some(BucketStyle::Virtual)));
    assert!(all.is_store);
    assert_eq!(url("s3://b/x/{path}?region=r").to_string(), "s3://b/x/vae/a b#é.bin");
    assert_eq!(parse("s3://b/p?endpoint=http://minio").unwrap().to_string(), "s3://b/p");
}

#[test]
fn a_directory_is_an_absolute_path_of_this_machine() {
    for (text, path) in [
        ("file:///mnt/models", "/mnt/models"),
        ("file:///mnt/a%20b/", "/mnt/a b/"),
        ("file://localhost/m", "/m"),
    ] {
        assert_eq!(parse(text), Ok(StoreAddress::Directory(path.into())), "{text}");
    }
    let directory = parse("file:///mnt/models").unwrap();
    assert_eq!(directory.url_of(&"x".parse().unwrap(), 1, &SHA.parse().unwrap()), None);
    assert_eq!(directory.to_string(), "file:///mnt/models");
}

#[test]
fn other_texts_are_refused_with_the_right_form() {
    use StoreAddressError as E;
    for (text, error) in [
        ("/mnt/models", E::Form),
        ("ftp://h/{sha256}", E::Form),
        ("https://h/models/", E::NoPlaceholder),
        ("https://h/models/{size}", E::NoPlaceholder),
        ("https://h/{sha256", E::Placeholder),
        ("https://h/sha256}", E::Placeholder),
        ("https://h/{digest}", E::Placeholder),
        ("https://{sha256}.h/", E::HostPlaceholder),
        ("https://{env:SAS}@h/{sha256}", E::HostPlaceholder),
        ("https://h/{env:SAS}/{sha256}", E::SecretPlace),
        ("http://h/{sha256}?{env:SAS}", E::SecretOverHttp { name: "SAS".into() }),
        ("https://h/{sha256}?{env:NONE}", E::Unset { name: "NONE".into() }),
        ("https://h/{sha256}?{env:EMPTY}", E::Unset { name: "EMPTY".into() }),
        ("https://h/{sha256}?{env:ODD}", E::Value { name: "ODD".into() }),
        ("https://h/{sha256}?{env:A-B}", E::Placeholder),
        ("https://u:canary@h/{sha256}", E::Url(SourceUrlError::UserInfo)),
        ("https://h/ {sha256}", E::Url(SourceUrlError::Characters)),
        ("oci://h", E::Registry),
        ("oci://h/Team", E::Registry),
        ("oci://h/m:tag", E::Registry),
        ("oci://u:canary@h/m", E::Registry),
        ("oci://h/m?x=canary", E::Registry),
        ("oci://h/m?ns=a/b", E::Registry),
        ("s3://", E::Bucket),
        ("s3://a/../b", E::Bucket),
        ("s3://key:canary@b/p", E::Bucket),
        ("s3://b/p?key=canary", E::Bucket),
        ("s3://b/p?style=other", E::Bucket),
        ("s3://b/p?endpoint=http://h/?sig=canary", E::Bucket),
        ("s3://b/p?endpoint=http://u:canary@h/", E::Url(SourceUrlError::UserInfo)),
        ("s3://b/{env:SAS}", E::Variable),
        ("file://host/x", E::Directory),
        ("file:///a/{sha256}", E::Directory),
        ("file:///a?x=canary", E::Directory),
    ] {
        let found = parse(text).unwrap_err();
        assert_eq!(found, error, "{text}");
        assert!(!found.to_string().contains("canary"), "{found}");
    }
}

#[test]
fn fault_133_a_store_never_shows_its_secrets() {
    let address = parse("https://h/m/{sha256}?{env:SAS}").unwrap();
    let url = url("https://h/m/{sha256}?{env:SAS}");
    assert_eq!(address.to_string(), "https://h/m/{sha256}?…");
    for shown in [format!("{address:?}"), format!("{url}"), format!("{url:?}")] {
        assert!(!shown.contains("canary") && !shown.contains("sv=1"), "{shown}");
    }
}

#[test]
fn a_lock_may_use_the_forms_but_names_no_variable() {
    let parse = StoreAddress::parse_in_lock;
    assert_eq!(parse("https://h/models/x"), Ok(None));
    assert_eq!(parse("https://h/{x}/y"), Ok(None), "an address as today");
    assert_eq!(parse("https://h/{sha256}?{env:SAS}"), Err(StoreAddressError::Variable));
    let (path, sha256) = ("x".parse().unwrap(), SHA.parse().unwrap());
    let url = parse("s3://b/p").unwrap().unwrap().url_of(&path, 5, &sha256).unwrap();
    assert!(!url.object().unwrap().is_store);
}

#[test]
fn an_info_hash_is_filled_in_for_the_files_that_have_one() {
    use crate::torrent::{InfoHash, Torrent};
    let text = "http://localhost:3030/torrents/{infohash}/stream/0";
    let address = parse(text).unwrap();
    assert!(address.needs_infohashes() && !parse("https://h/{sha256}").unwrap().needs_infohashes());
    let (path, sha256): (ModelPath, Sha256) = ("vae/x".parse().unwrap(), SHA.parse().unwrap());
    assert_eq!(address.url_of(&path, 5, &sha256), None);
    let torrent = Torrent::of_file(&path, 5, &[[7; 20]]).encode(&[], None);
    let infohash = InfoHash::of(&torrent).unwrap();
    let address = address.with_infohashes([(sha256, infohash)].into());
    let expected = format!("http://localhost:3030/torrents/{infohash}/stream/0");
    assert_eq!(address.url_of(&path, 5, &sha256).unwrap().as_url().as_str(), expected);
    assert_eq!(address.to_string(), text);
    // A lock knows none, and no bucket is named by one.
    let in_lock = StoreAddress::parse_in_lock("https://h/{sha256}/{infohash}");
    assert_eq!(in_lock, Err(StoreAddressError::InfoHash));
    assert_eq!(parse("s3://b/{infohash}"), Err(StoreAddressError::Bucket));
}
