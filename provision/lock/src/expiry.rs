//! Detects signed URLs, which expire; a lock is meant to last for years.
//!
//! A signature shows in the query's parameters, whose names differ between storage services. Only their presence and
//! the signature's lifetime are read; no value of the query is ever shown (invariant I6). A parameter with an ambiguous
//! name (`expires=never` of a wiki) does not count alone. It needs a signature beside it, or a name that only one
//! system uses.
//!
//! A token with an end is such a signature, too. Akamai's contains its end (`__token__=exp=…`), and Bunny's stands
//! beside a time (`token=…&expires=1700000000`). `is_expiring_token` separates them from permanent tokens, which no
//! lock may contain.

use std::fmt;

use provision_core::source_url::SourceUrl;

/// The reason that a URL will stop working.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Expiry {
    /// The kind of signature.
    pub signer: Signer,
    /// The signature's lifetime in seconds, if the URL states it.
    pub seconds: Option<u64>,
}

/// A kind of signature.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Signer {
    /// S3 or a compatible storage: R2, B2, `MinIO`, the Hub's.
    S3,
    /// An Azure shared access signature, as on GitHub's release assets.
    Azure,
    /// `CloudFront`.
    CloudFront,
    /// Google Cloud Storage.
    Google,
    /// Alibaba's OSS, as on `ModelScope`'s files.
    Oss,
    /// Backblaze's download authorization.
    Backblaze,
    /// A JSON Web Token.
    Token,
    /// Another signature with an end.
    Other,
}

/// Parameter names for the end of a signature.
const END_NAMES: [&str; 14] = [
    "e",
    "exp",
    "expiration",
    "expire",
    "expires",
    "expires-at",
    "expires_at",
    "expires_in",
    "expiresat",
    "expiresin",
    "expiry",
    "valid_until",
    "validuntil",
    "x-expires",
];

/// Parameter names for a signature. One of them beside an end means that the URL expires.
const SIGNATURE_NAMES: [&str; 8] = ["hmac", "mac", "md5", "sig", "sign", "signature", "st", "x-signature"];

/// Names that only one system uses, each for something that expires.
const EXPIRING_NAMES: [&str; 9] = [
    "auth_key",
    "hdnea",
    "hdntl",
    "hdnts",
    "q-signature",
    // SharePoint's, valid for about an hour.
    "tempauth",
    "x-cos-security-token",
    "x-obs-signature",
    "x-tos-signature",
];

/// Further parameters of signatures: Azure's, `CloudFront`'s, Google's, OSS's and S3's older ones.
const OTHER_NAMES: [&str; 20] = [
    "awsaccesskeyid",
    "googleaccessid",
    "key-pair-id",
    "ossaccesskeyid",
    "policy",
    "se",
    "si",
    "sip",
    "ske",
    "skoid",
    "sks",
    "skt",
    "sktid",
    "skv",
    "sp",
    "spr",
    "sr",
    "sv",
    "token",
    "bcdn_token",
];

/// Returns true for the name, in lower case, of a parameter of a signed URL's signature.
pub(crate) fn is_of_signature(name: &str) -> bool {
    [&END_NAMES[..], &SIGNATURE_NAMES, &EXPIRING_NAMES, &OTHER_NAMES].concat().contains(&name)
}

impl Expiry {
    /// The expiry of `url`; `None` if nothing in it says that it expires.
    pub fn of(url: &SourceUrl) -> Option<Self> {
        let pairs: Vec<(String, String)> = url
            .as_url()
            .query_pairs()
            .map(|(name, value)| (name.to_ascii_lowercase(), value.into_owned()))
            .collect();
        let value =
            |name: &str| pairs.iter().find(|(known, _)| known == name).map(|(_, value)| value.as_str());
        let has = |name: &str| value(name).is_some();
        let seconds = |name: &str| value(name).and_then(|value| value.parse::<u64>().ok());
        let end = END_NAMES.into_iter().any(has);
        let signature = SIGNATURE_NAMES.into_iter().any(has);
        let (signer, seconds) = if has("x-amz-signature") || has("x-amz-expires") {
            (Signer::S3, seconds("x-amz-expires"))
        } else if has("x-goog-signature") || has("x-goog-expires") {
            (Signer::Google, seconds("x-goog-expires"))
        } else if has("x-oss-signature") || has("x-oss-expires") {
            (Signer::Oss, seconds("x-oss-expires"))
        } else if has("googleaccessid") && signature {
            (Signer::Google, None)
        } else if has("ossaccesskeyid") && signature {
            (Signer::Oss, None)
        } else if has("key-pair-id") && (has("policy") || end) {
            (Signer::CloudFront, None)
        } else if has("awsaccesskeyid") && signature {
            (Signer::S3, None)
        } else if has("sig") && (has("se") || has("si")) {
            // `si` names a policy at the storage, and the policy has the end.
            (Signer::Azure, None)
        } else if EXPIRING_NAMES.into_iter().any(has)
            || pairs.iter().any(|pair| is_expiring_token(pair, &pairs))
        {
            (Signer::Other, None)
        } else if pairs.iter().any(|(_, value)| is_token(value)) {
            (Signer::Token, None)
        } else if has("authorization") {
            (Signer::Backblaze, None)
        } else if end && signature {
            (Signer::Other, None)
        } else {
            return None;
        };
        Some(Self { signer, seconds })
    }
}

/// Returns true if this parameter (names in lower case) is a token with an end.
pub(crate) fn is_expiring_token((name, value): &(String, String), pairs: &[(String, String)]) -> bool {
    let is_time = |value: &str| !value.is_empty() && value.bytes().all(|byte| byte.is_ascii_digit());
    match name.as_str() {
        "__token__" => value.contains("exp="),
        "token" | "bcdn_token" => pairs.iter().any(|(name, value)| name == "expires" && is_time(value)),
        _ => false,
    }
}

/// A JSON Web Token: three parts of base64url, the first of which begins with `{"` (RFC 7519).
fn is_token(value: &str) -> bool {
    let base64 = |c: u8| c.is_ascii_alphanumeric() || matches!(c, b'_' | b'-');
    value.starts_with("eyJ")
        && value.split('.').count() == 3
        && value.split('.').all(|part| !part.is_empty() && part.bytes().all(base64))
}

impl fmt::Display for Expiry {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let signer = match self.signer {
            Signer::S3 => "an S3 signature",
            Signer::Azure => "an Azure storage signature, as GitHub's release downloads have",
            Signer::CloudFront => "a CloudFront signature",
            Signer::Google => "a Google Cloud Storage signature",
            Signer::Oss => "an OSS signature",
            Signer::Backblaze => "a Backblaze download authorization",
            Signer::Token => "a web token",
            Signer::Other => "a signature with an expiry time",
        };
        write!(f, "the URL contains {signer}")?;
        match self.seconds {
            Some(seconds) => write!(f, ", valid for {seconds} seconds after its creation")?,
            None => f.write_str(" and will stop working")?,
        }
        f.write_str("; give the URL that redirected to it, or --allow-expiring")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn of(url: &str) -> Option<Expiry> {
        Expiry::of(&url.parse().unwrap())
    }

    #[test]
    fn signed_urls_are_recognised_and_no_value_is_shown() {
        for (query, signer, seconds) in [
            (
                "X-Amz-Algorithm=AWS4-HMAC-SHA256&X-Amz-Expires=3600&X-Amz-Signature=canary",
                Signer::S3,
                Some(3600),
            ),
            ("x-amz-signature=canary", Signer::S3, None),
            ("auth_key=1700000000-0-0-canary", Signer::Other, None),
            ("q-sign-algorithm=sha1&q-signature=canary", Signer::Other, None),
            ("X-Amz-Expires=canary", Signer::S3, None),
            ("AWSAccessKeyId=canary&Expires=1&Signature=canary", Signer::S3, None),
            ("sp=r&sv=2018&se=2026-01-01T00%3A00%3A00Z&sig=canary&jwt=x", Signer::Azure, None),
            ("Expires=1&Policy=canary&Signature=canary&Key-Pair-Id=canary", Signer::CloudFront, None),
            ("Expires=1&Signature=canary&Key-Pair-Id=canary", Signer::CloudFront, None),
            ("X-Goog-Expires=604800&X-Goog-Signature=canary", Signer::Google, Some(604_800)),
            ("GoogleAccessId=canary&Expires=1&Signature=canary", Signer::Google, None),
            ("OSSAccessKeyId=canary&Expires=1&Signature=canary", Signer::Oss, None),
            ("Authorization=3_canary", Signer::Backblaze, None),
            ("jwt=eyJcanary.eyJcanary.canary", Signer::Token, None),
            ("expires=1&sig=canary", Signer::Other, None),
            // The signature of a web server, of a CDN, and other names for the end.
            ("md5=canary&expires=1", Signer::Other, None),
            ("st=canary&e=1", Signer::Other, None),
            ("hdnts=exp%3D1~hmac%3Dcanary", Signer::Other, None),
            ("expiration=1&signature=canary", Signer::Other, None),
            ("expires_at=1&x-signature=canary", Signer::Other, None),
            // The end is in a policy at the storage, in the token, or beside it.
            ("sv=2020&si=policy&sr=b&sig=canary", Signer::Azure, None),
            ("tempauth=canary", Signer::Other, None),
            ("__token__=exp%3D1~acl%3D%2F*~hmac%3Dcanary", Signer::Other, None),
            ("__token__=exp=1~acl=/*~hmac=canary", Signer::Other, None),
            ("token=canary&expires=1700000000", Signer::Other, None),
            ("token=canary&expires=1700000000&token_path=%2F", Signer::Other, None),
            ("X-Amz-Expires=3600&X-Amz-Signature=canary&token=1", Signer::S3, Some(3600)),
            // Parameter names may be percent-encoded.
            ("X%2DAmz%2DExpires=7&X%2DAmz%2DSignature=canary", Signer::S3, Some(7)),
            ("%65xpires=1&si%67=canary", Signer::Other, None),
        ] {
            let expiry = of(&format!("https://h.example/x?{query}"))
                .unwrap_or_else(|| panic!("{query} counts as lasting"));
            assert_eq!(expiry, Expiry { signer, seconds }, "{query}");
            let said = expiry.to_string();
            assert!(!said.contains("canary") && said.contains("--allow-expiring"), "{said}");
        }
    }

    #[test]
    fn ambiguous_parameters_do_not_expire() {
        for query in [
            "",
            "?download=true",
            "?expires=never",
            "?e=1",
            "?sig=x",
            "?policy=x",
            "?v=eyJ.x",
            "?se=1",
            "?md5=x",
            "?si=x",
            "?token=x&expires=never",
            "?__token__=x",
        ] {
            assert_eq!(of(&format!("https://h.example/x{query}")), None, "{query}");
        }
    }
}
