//! Detects credentials in a URL's query. A lock must not contain any: it is committed and widely read.
//!
//! The parameter's name decides, after decoding. It is split into words, so that `accessToken`, `access-token` and
//! `ACCESS_TOKEN` are equal, and its last word counts: `tokenizer`, `author`, `keyframe` and names that end with `id`
//! do not match. Names that end with `token` match, except pagination tokens (`page_token`). `key` has many meanings:
//! alone, it matches if the value looks like a credential, and otherwise by the word before it. A switch (`auth=0`,
//! `pass=`) is no credential.
//!
//! A signature is a credential, too, but it expires: [`Expiry`] reports it, and the user may allow it. Only the
//! parameters of such a signature are left to that check.

use provision_core::source_url::SourceUrl;
use url::Url;

use crate::expiry::{Expiry, is_expiring_token, is_of_signature};

/// Last words that always mean a credential, also in joined spellings.
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

/// Words before `key` that make it a credential.
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

/// Words before `token` that make it a pagination token.
const OF_LISTS: [&str; 6] = ["continuation", "cursor", "list", "next", "page", "sync"];

/// Values of a parameter that is a switch.
const SWITCHES: [&str; 9] = ["", "0", "1", "true", "false", "yes", "no", "none", "null"];

/// Parameters of signed URLs, by storage.
const OF_SIGNATURES: [&str; 5] =
    ["auth_key", "authorization", "jwt", "security-token", "x-bce-security-token"];

/// Finds a parameter of `url` that carries a credential; returns its name in words.
pub(super) fn find(url: &SourceUrl) -> Option<String> {
    let is_signed = Expiry::of(url).is_some();
    let query = url.as_url().query()?;
    // Some servers separate parameters with semicolons.
    let pairs = query.split(';').flat_map(|part| url::form_urlencoded::parse(part.as_bytes()));
    let small: Vec<(String, String)> =
        pairs.clone().map(|(name, value)| (name.to_ascii_lowercase(), value.into_owned())).collect();
    pairs
        .zip(&small)
        .filter(|(_, pair)| {
            !(is_signed && (belongs_to_signature(&pair.0) || is_expiring_token(pair, &small)))
        })
        .map(|(pair, _)| pair)
        .find_map(|(name, value)| is_secret(&words(&name), &value).then(|| words(&name).join("_")))
        .map(|name| name.chars().filter(char::is_ascii_graphic).take(40).collect())
}

/// Returns true for a parameter that carries a credential.
pub(super) fn is_credential(name: &str, value: &str) -> bool {
    is_secret(&words(name), value)
}

/// `url` without the parameters of its signature and its credentials. They change, and the file stays; any other
/// parameter may choose the file (fault 114).
pub(super) fn without_signature(url: &SourceUrl) -> Url {
    let is_signed = Expiry::of(url).is_some();
    let is_of_file = |name: &str, value: &str| {
        let small = name.to_ascii_lowercase();
        !(is_credential(name, value)
            || is_signed && (belongs_to_signature(&small) || is_of_signature(&small)))
    };
    let mut bare = url.as_url().clone();
    let pairs = url.as_url().query_pairs().filter(|(name, value)| is_of_file(name, value));
    let query = url::form_urlencoded::Serializer::new(String::new()).extend_pairs(pairs).finish();
    bare.set_query(Some(&query).filter(|query| !query.is_empty()).map(String::as_str));
    bare
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
        // The browser's number for a download, in URLs copied from Nextcloud.
        "secret" => !words.ends_with(&["download", "start", "secret"].map(str::to_owned)),
        last => {
            let of_token = last.strip_suffix("token");
            of_token.is_some_and(|of| !OF_LISTS.contains(&of)) || SECRETS.contains(&last)
        }
    }
}

/// Returns true if the value is long or mixes cases and digits, unlike a chosen name. A file's name does not count.
fn looks_like_credential(value: &str) -> bool {
    let has = |is: fn(&u8) -> bool| value.bytes().any(|byte| is(&byte));
    let is_mixed = has(u8::is_ascii_lowercase) && has(u8::is_ascii_uppercase) && has(u8::is_ascii_digit);
    let is_long = value.len() >= 16;
    !value.contains(['/', '.']) && (is_long || (is_mixed && value.len() >= 8))
}

/// Splits a name into lower-case words at capitals and at characters that are neither letters nor digits.
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
        find(&format!("https://h.example/x?{query}").parse().unwrap())
    }

    #[test]
    fn fault_53_a_query_credential_is_found_in_any_spelling() {
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
            // Percent-encoded, wholly or partly, and separated by a semicolon.
            ("%74oken=canary", "token"),
            ("%74%6F%6B%65%6E=canary", "token"),
            ("api%5Fkey=canary", "api_key"),
            ("api+key=canary", "api_key"),
            ("a=b;token=canary", "token"),
            // Beside a signature, but not part of it.
            ("X-Amz-Expires=1&X-Amz-Signature=canary&token=canary", "token"),
        ] {
            assert_eq!(of(query).as_deref(), Some(name), "{query}");
        }
    }

    #[test]
    fn fault_114_only_a_signature_is_left_out_of_an_address() {
        let bare = |query: &str| {
            let url = format!("https://h.example/x?{query}").parse().unwrap();
            without_signature(&url).query().unwrap_or_default().to_owned()
        };
        for (query, kept) in [
            ("file=a.lock", "file=a.lock"),
            ("file=a.lock&token=canary", "file=a.lock"),
            ("file=a&X-Amz-Expires=1&X-Amz-Signature=canary&X-Amz-Date=2", "file=a"),
            ("sp=r&se=2026&sig=canary&path=x", "path=x"),
            ("Expires=1&Signature=canary&Key-Pair-Id=canary", ""),
            // Without a signature, these may be anything.
            ("e=1&sp=2", "e=1&sp=2"),
        ] {
            assert_eq!(bare(query), kept, "{query}");
        }
    }

    #[test]
    fn similar_parameter_names_are_no_credentials() {
        let similar = "download=true tokenizer=canary tokens=7 max_tokens=7 page_token=canary pageToken=canary \
             continuation-token=canary key=models/vae/x.safetensors key=x.bin key=sd15 key=flux-dev \
             key=1234567 key= auth=0 no_auth=1 auth=none pass= session=false cookie=True token=1 \
             downloadStartSecret=canary nexttoken=canary keyword=canary keyframe=1 monkey=1 rlkey=canary \
             resourcekey=canary public_key=canary key_id=canary author=canary authority=canary oauth=1 \
             passage=1 bypass=1 secretary=canary jwt_issuer=canary password_hint=none signature=canary \
             v=token";
        // Parts of signatures, which expire.
        let signatures = "X-Amz-Security-Token=canary&X-Amz-Expires=1&X-Amz-Signature=canary \
             sp=r&se=2026&sig=canary&jwt=canary auth_key=1-0-0-canary Authorization=3_canary \
             __token__=exp=1~hmac=canary token=canary&expires=1700000000 \
             X-Amz-Expires=1&X-Amz-Signature=canary&token=1 tempauth=canary";
        for query in similar.split(' ').chain(signatures.split(' ')).chain([""]) {
            assert_eq!(of(query), None, "{query}");
        }
    }
}
