//! The answers of AWS's services that issue keys, as pure functions of their bodies.

use std::time::{Duration, SystemTime};

use provision_core::xml::element;
use provision_http::Secret;
use provision_http::s3_config::S3Credentials;
use serde_json::Value;

/// The keys in the JSON of the container endpoint, of the metadata service, or of a `credential_process`.
pub(super) fn of_json(body: &[u8], source: &str) -> Option<S3Credentials> {
    let value: Value = serde_json::from_slice(body).ok()?;
    // The metadata service says so if it has none.
    if value["Code"].as_str().is_some_and(|code| code != "Success") {
        return None;
    }
    let text = |name: &str| value[name].as_str().filter(|text| !text.is_empty()).map(str::to_owned);
    let token = text("Token").or_else(|| text("SessionToken"));
    let expires = match text("Expiration") {
        Some(date) => Some(time(&date)?),
        None => None,
    };
    Some(S3Credentials {
        access_key: text("AccessKeyId")?,
        secret_key: Secret::new(text("SecretAccessKey")?),
        session_token: token.map(Secret::new),
        expires,
        source: source.to_owned(),
    })
}

/// The keys in the XML of `AssumeRoleWithWebIdentity`. They have none of the characters that XML escapes.
pub(super) fn of_xml(body: &[u8], source: &str) -> Option<S3Credentials> {
    let body = std::str::from_utf8(body).ok()?;
    Some(S3Credentials {
        access_key: element(body, "AccessKeyId")?.to_owned(),
        secret_key: Secret::new(element(body, "SecretAccessKey")?),
        session_token: element(body, "SessionToken").map(Secret::new),
        expires: Some(time(element(body, "Expiration")?)?),
        source: source.to_owned(),
    })
}

/// The code of an error's XML: letters, no text that could repeat a secret.
pub(super) fn error_code(body: &[u8]) -> Option<&str> {
    let code = element(std::str::from_utf8(body).ok()?, "Code")?;
    (code.len() < 64 && code.bytes().all(|byte| byte.is_ascii_alphanumeric())).then_some(code)
}

/// A date such as `2026-11-29T23:05:00Z`, with or without a fraction of a second (RFC 3339), and with an offset of
/// zero.
pub(super) fn time(date: &str) -> Option<SystemTime> {
    let date = date.strip_suffix('Z').or_else(|| date.strip_suffix("+00:00"))?;
    let numbers: Vec<u64> =
        date.split('.').next()?.split(['-', 'T', ':']).map_while(|text| text.parse().ok()).collect();
    let [year, month @ 1..=12, day @ 1..=31, hour @ 0..24, minute @ 0..60, second @ 0..=60] = numbers[..]
    else {
        return None;
    };
    if !(1970..10_000).contains(&year) {
        return None;
    }
    // Years begin in March, so that a leap day is a year's last day.
    let (years, month) = if month > 2 { (year, month - 3) } else { (year - 1, month + 9) };
    let days = years * 365 + years / 4 - years / 100 + years / 400 + (month * 153 + 2) / 5 + day - 1;
    let days = days.checked_sub(719_468)?;
    SystemTime::UNIX_EPOCH.checked_add(Duration::from_secs(((days * 24 + hour) * 60 + minute) * 60 + second))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn dates_are_seconds_since_1970() {
        for (date, seconds) in [
            ("1970-01-01T00:00:00Z", 0),
            ("2000-02-29T12:00:00Z", 951_825_600),
            ("2026-11-29T23:05:07Z", 1_795_993_507),
            ("2026-11-29T23:05:07.123456Z", 1_795_993_507),
            ("2026-11-29T23:05:07+00:00", 1_795_993_507),
        ] {
            let expected = SystemTime::UNIX_EPOCH + Duration::from_secs(seconds);
            assert_eq!(time(date), Some(expected), "{date}");
        }
        for date in
            ["", "2026-11-29", "2026-13-01T00:00:00Z", "2026-11-29T23:05:07+02:00", "1969-12-31T23:00:00Z"]
        {
            assert_eq!(time(date), None, "{date}");
        }
    }

    #[test]
    fn keys_are_read_from_json_and_xml() {
        let expected = S3Credentials {
            access_key: "ASIA".to_owned(),
            secret_key: Secret::new("canary"),
            session_token: Some(Secret::new("token")),
            expires: time("2026-11-29T23:05:07Z"),
            source: "s".to_owned(),
        };
        for token in ["Token", "SessionToken"] {
            let json = format!(
                "{{\"Code\": \"Success\", \"AccessKeyId\": \"ASIA\", \"SecretAccessKey\": \"canary\", \"{token}\": \"token\", \
                 \"Expiration\": \"2026-11-29T23:05:07Z\"}}"
            );
            assert_eq!(of_json(json.as_bytes(), "s").as_ref(), Some(&expected));
        }
        let xml = "<R><AssumeRoleWithWebIdentityResult><Credentials><SessionToken>token</SessionToken>\n<SecretAccessKey>\
                   canary</SecretAccessKey><Expiration>2026-11-29T23:05:07Z</Expiration><AccessKeyId>ASIA</AccessKeyId>";
        assert_eq!(of_xml(xml.as_bytes(), "s").as_ref(), Some(&expected));
        for other in [
            "",
            "{}",
            "{\"Code\": \"Failed\", \"AccessKeyId\": \"a\", \"SecretAccessKey\": \"b\"}",
            "<Error/>",
        ] {
            assert!(
                of_json(other.as_bytes(), "s").is_none() && of_xml(other.as_bytes(), "s").is_none(),
                "{other}"
            );
        }
        assert_eq!(error_code(b"<Error><Code>AccessDenied</Code></Error>"), Some("AccessDenied"));
        assert_eq!(error_code(b"<Error><Code>a secret</Code></Error>"), None);
    }
}
