//! Credentials in an address's query, which a lock is no place for: it is committed, and read by many.
//!
//! They are told by the names of their parameters, decoded. A name is taken apart into words, so that `accessToken`,
//! `access-token` and `ACCESS_TOKEN` are one, and its last word decides: a `tokenizer`, an `author` and a `keyframe` are not
//! meant, nor is what comes before an `id`. What a host calls a token and is only a place in a list (`page_token`) is none.
//! What ends with `token` is one, however it is put together. `key` is the name of many things: alone it counts where what stands
//! there looks like a credential, and else by the word before it. A switch (`auth=0`, `pass=`) is nobody's secret.
//!
//! A signature is a credential, too, but one that ends: [`Expiry`] speaks of it, and may be overruled. Only what belongs to such a
//! signature is left to it.

use provision_core::source_url::SourceUrl;

use crate::expiry::{Expiry, ends_by_itself};

/// Last words that say it all, also as people write two of them together.
const SECRETS: [&str; 25] = [
    "accesskey",
    "accesstoken",
    "apikey",
    "apitoken",
    "auth",
    // OneDrive's.
    "authkey",
    "authorization",
    "authtoken",
    "bearer",
    "cookie",
    "credential",
    "credentials",
    "hftoken",
    "jwt",
    "pass",
    "passphrase",
    "passwd",
    "password",
    "privatetoken",
    "pwd",
    "secret",
    "secretkey",
    "session",
    "sessionid",
    "token",
];

/// Before `key`.
const OF_KEYS: [&str; 14] = [
    "access",
    "account",
    "admin",
    "api",
    "app",
    "auth",
    "client",
    "function",
    "functions",
    "master",
    "private",
    "secret",
    "service",
    "subscription",
];

/// Before `token`: a place in a list.
const OF_LISTS: [&str; 6] = ["continuation", "cursor", "list", "next", "page", "sync"];

/// What a parameter has that switches something.
const SWITCHES: [&str; 9] = ["", "0", "1", "true", "false", "yes", "no", "none", "null"];

/// What signed addresses have, by their storage.
const OF_SIGNATURES: [&str; 5] =
    ["auth_key", "authorization", "jwt", "security-token", "x-bce-security-token"];

/// The parameter of `url` that carries a credential, in words.
pub(super) fn parameter(url: &SourceUrl) -> Option<String> {
    let is_signed = Expiry::of(url).is_some();
    let query = url.as_url().query()?;
    // Some servers part parameters by semicolons.
    let pairs = query.split(';').flat_map(|part| url::form_urlencoded::parse(part.as_bytes()));
    let small: Vec<(String, String)> =
        pairs.clone().map(|(name, value)| (name.to_ascii_lowercase(), value.into_owned())).collect();
    pairs
        .zip(&small)
        .filter(|(_, pair)| !(is_signed && (belongs_to_signature(&pair.0) || ends_by_itself(pair, &small))))
        .map(|(pair, _)| pair)
        .find_map(|(name, value)| is_secret(&words(&name), &value).then(|| words(&name).join("_")))
        .map(|name| name.chars().filter(char::is_ascii_graphic).take(40).collect())
}

fn belongs_to_signature(name: &str) -> bool {
    let prefixes = ["x-amz-", "x-goog-", "x-oss-", "x-tos-", "x-obs-", "x-cos-"];
    OF_SIGNATURES.contains(&name) || prefixes.iter().any(|prefix| name.starts_with(prefix))
}

fn is_secret(words: &[String], value: &str) -> bool {
    let Some((last, before)) = words.split_last() else { return false };
    let before = before.last().map_or("", String::as_str);
    if SWITCHES.iter().any(|switch| value.eq_ignore_ascii_case(switch)) {
        return false;
    }
    match last.as_str() {
        "key" if before.is_empty() => looks_like_credential(value),
        "key" => OF_KEYS.contains(&before),
        "token" => !OF_LISTS.contains(&before),
        // The browser's own number for a download, in addresses that are copied from Nextcloud.
        "secret" => !words.ends_with(&["download", "start", "secret"].map(str::to_owned)),
        last => {
            let of_token = last.strip_suffix("token");
            of_token.is_some_and(|of| !OF_LISTS.contains(&of)) || SECRETS.contains(&last)
        }
    }
}

/// Whether a value is no name that somebody has given: long, or small letters, capitals and digits mixed. A file's name is one.
fn looks_like_credential(value: &str) -> bool {
    let has = |is: fn(&u8) -> bool| value.bytes().any(|byte| is(&byte));
    let is_mixed = has(u8::is_ascii_lowercase) && has(u8::is_ascii_uppercase) && has(u8::is_ascii_digit);
    let is_long = value.len() >= 16;
    !value.contains(['/', '.']) && (is_long || (is_mixed && value.len() >= 8))
}

/// The words of a name, in small letters: parted by what is neither letter nor digit, and by a capital.
fn words(name: &str) -> Vec<String> {
    let mut words = vec![String::new()];
    let letters: Vec<char> = name.chars().collect();
    for (at, letter) in letters.iter().enumerate() {
        if !letter.is_alphanumeric() {
            words.push(String::new());
            continue;
        }
        let before = at.checked_sub(1).map(|before| letters[before]);
        let is_followed_by_small = letters.get(at + 1).is_some_and(|next| next.is_lowercase());
        // `apiKey`, and the `K` of `APIKey`.
        let begins = letter.is_uppercase()
            && before.is_some_and(|before| !before.is_uppercase() || is_followed_by_small);
        if begins {
            words.push(String::new());
        }
        if let Some(word) = words.last_mut() {
            word.extend(letter.to_lowercase());
        }
    }
    words.retain(|word| !word.is_empty());
    words
}

#[cfg(test)]
mod tests {
    use super::*;

    fn of(query: &str) -> Option<String> {
        parameter(&format!("https://h.example/x?{query}").parse().unwrap())
    }

    #[test]
    fn fault_53_a_credential_in_an_address_is_told_by_its_name_however_it_is_written() {
        for (query, name) in [
            ("token=canary", "token"),
            ("Token=canary", "token"),
            ("a=b&access_token=canary", "access_token"),
            ("accessToken=canary", "access_token"),
            ("AccessToken=canary", "access_token"),
            ("accesstoken=canary", "accesstoken"),
            ("hf_token=canary", "hf_token"),
            ("HFToken=canary", "hf_token"),
            ("civitai-token=canary", "civitai_token"),
            ("X-Auth-Token=canary", "x_auth_token"),
            ("private_token=canary", "private_token"),
            ("key=canarycanarycanary", "key"),
            ("key=Canary-7b", "key"),
            ("downloadtoken=canary", "downloadtoken"),
            ("DOWNLOADTOKEN=canary", "downloadtoken"),
            ("authkey=canary", "authkey"),
            ("authkey=%21canary", "authkey"),
            ("token=canary&expires=never", "token"),
            ("__token__=canary", "token"),
            ("start_secret=canary", "start_secret"),
            ("api_key=canary", "api_key"),
            ("api-key=canary", "api_key"),
            ("apikey=canary", "apikey"),
            ("APIKey=canary", "api_key"),
            ("x-api-key=canary", "x_api_key"),
            ("subscription-key=canary", "subscription_key"),
            ("secret=canary", "secret"),
            ("client_secret=canary", "client_secret"),
            ("secretAccessKey=canary", "secret_access_key"),
            ("password=canary", "password"),
            ("passwd=canary", "passwd"),
            ("pwd=canary", "pwd"),
            ("user=me&pass=canary", "pass"),
            ("auth=canary", "auth"),
            ("jwt=canary", "jwt"),
            ("bearer=canary", "bearer"),
            ("sessionid=canary", "sessionid"),
            // Encoded, in whole or in part, and parted by a semicolon.
            ("%74oken=canary", "token"),
            ("%74%6F%6B%65%6E=canary", "token"),
            ("api%5Fkey=canary", "api_key"),
            ("api+key=canary", "api_key"),
            ("a=b;token=canary", "token"),
            // Beside a signature, but no part of one.
            ("X-Amz-Expires=1&X-Amz-Signature=canary&token=canary", "token"),
        ] {
            assert_eq!(of(query).as_deref(), Some(name), "{query}");
        }
    }

    #[test]
    fn what_only_sounds_like_a_credential_is_none() {
        for query in [
            "",
            "download=true",
            "tokenizer=canary",
            "tokens=7",
            "max_tokens=7",
            "page_token=canary",
            "pageToken=canary",
            "continuation-token=canary",
            "key=models/vae/x.safetensors",
            "key=x.bin",
            "key=sd15",
            "key=flux-dev",
            "key=1234567",
            "key=",
            "auth=0",
            "no_auth=1",
            "auth=none",
            "pass=",
            "session=false",
            "cookie=True",
            "token=1",
            "downloadStartSecret=canary",
            "nexttoken=canary",
            "keyword=canary",
            "keyframe=1",
            "monkey=1",
            "rlkey=canary",
            "resourcekey=canary",
            "public_key=canary",
            "key_id=canary",
            "author=canary",
            "authority=canary",
            "oauth=1",
            "passage=1",
            "bypass=1",
            "secretary=canary",
            "jwt_issuer=canary",
            "password_hint=none",
            "signature=canary",
            "v=token",
            // Parts of signatures, which end.
            "X-Amz-Security-Token=canary&X-Amz-Expires=1&X-Amz-Signature=canary",
            "sp=r&se=2026&sig=canary&jwt=canary",
            "auth_key=1-0-0-canary",
            "Authorization=3_canary",
            "__token__=exp=1~hmac=canary",
            "token=canary&expires=1700000000",
            "X-Amz-Expires=1&X-Amz-Signature=canary&token=1",
            "tempauth=canary",
        ] {
            assert_eq!(of(query), None, "{query}");
        }
    }
}
