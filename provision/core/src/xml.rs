//! XML: the few elements that are read of a service's answers, such as a bucket's. They have no attributes, and none is
//! within one of the same name. An answer is searched once for each name, so nothing in it can grow.

/// The text of the first element with this name.
pub fn element<'t>(text: &'t str, name: &str) -> Option<&'t str> {
    elements(text, name).next()
}

/// The texts of all elements with this name.
pub fn elements<'t>(text: &'t str, name: &str) -> impl Iterator<Item = &'t str> {
    let (open, close) = (format!("<{name}>"), format!("</{name}>"));
    let mut rest = text;
    std::iter::from_fn(move || {
        let (_, after) = rest.split_once(&*open)?;
        let (inner, next) = after.split_once(&*close)?;
        rest = next;
        Some(inner.trim())
    })
}

/// A text with its references replaced.
pub fn unescaped(text: &str) -> String {
    let pairs =
        [("&quot;", "\""), ("&#34;", "\""), ("&apos;", "'"), ("&lt;", "<"), ("&gt;", ">"), ("&amp;", "&")];
    pairs.iter().fold(text.to_owned(), |text, (reference, character)| text.replace(reference, character))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_parts_of_an_answer_are_found() {
        let text = "<?xml version=\"1.0\"?>\n<ListPartsResult xmlns=\"x\"><IsTruncated>false</IsTruncated>\
                    <Part><PartNumber>1</PartNumber><ETag>&quot;a&amp;b&quot;</ETag><Size>5</Size></Part>\
                    <Part><PartNumber>2</PartNumber><Size>6</Size></Part></ListPartsResult>";
        let parts: Vec<_> = elements(text, "Part").collect();
        assert_eq!(parts.len(), 2);
        assert_eq!(element(parts[0], "ETag").map(unescaped).as_deref(), Some("\"a&b\""));
        assert_eq!((element(parts[1], "ETag"), element(parts[1], "Size")), (None, Some("6")));
        assert_eq!(element("<Code>x", "Code"), None);
    }
}
