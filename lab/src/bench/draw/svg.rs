//! The few elements that the pictures are made of.
//!
//! Colours are classes, and the style sheet has them twice: viewers that know about dark surroundings get the dark
//! ones, all others the light ones, on a ground of its own, so that nothing depends on the page around it.

use std::fmt::Write as _;

/// Wide enough to be legible in a README's column.
pub(super) const WIDTH: f64 = 860.0;

const STYLE: &str = "\
text { font: 13px 'DejaVu Sans', Verdana, Helvetica, Arial, sans-serif; fill: #1f2328; }
.title { font-size: 16px; font-weight: bold; }
.soft { fill: #59636e; font-size: 12px; }
.right { text-anchor: end; }
.middle { text-anchor: middle; }
.ground { fill: #ffffff; }
.ours { fill: #0b6e4f; stroke: #0b6e4f; }
.theirs { fill: #8c96a3; stroke: #8c96a3; }
.unverified { fill: #d3d9e0; stroke: #8c96a3; }
.ideal { stroke: #b35900; stroke-width: 1.5; stroke-dasharray: 4 3; fill: none; }
.axis { stroke: #c6cdd5; stroke-width: 1; fill: none; }
.curve { fill: none; stroke-width: 2; }
@media (prefers-color-scheme: dark) {
text { fill: #e6edf3; }
.soft { fill: #9aa5b1; }
.ground { fill: #0d1117; }
.ours { fill: #3fb98a; stroke: #3fb98a; }
.theirs { fill: #7d8793; stroke: #7d8793; }
.unverified { fill: #323a44; stroke: #7d8793; }
.ideal { stroke: #f0a050; }
.axis { stroke: #3a424c; }
}
";

/// A picture in the making: what is put first lies below what comes later.
#[derive(Debug, Default)]
pub(super) struct Picture {
    body: String,
}

impl Picture {
    pub(super) fn text(&mut self, (x, y): (f64, f64), class: &str, text: &str) {
        let text = escape(text);
        let _ = writeln!(self.body, r#"<text x="{x:.1}" y="{y:.1}" class="{class}">{text}</text>"#);
    }

    pub(super) fn bar(&mut self, (x, y): (f64, f64), (width, height): (f64, f64), class: &str) {
        let _ = writeln!(
            self.body,
            r#"<rect x="{x:.1}" y="{y:.1}" width="{width:.1}" height="{height:.1}" class="{class}"/>"#
        );
    }

    pub(super) fn dot(&mut self, (x, y): (f64, f64), class: &str) {
        let _ = writeln!(self.body, r#"<circle cx="{x:.1}" cy="{y:.1}" r="3" class="{class}"/>"#);
    }

    pub(super) fn line(&mut self, points: &[(f64, f64)], class: &str) {
        let points: Vec<_> = points.iter().map(|(x, y)| format!("{x:.1},{y:.1}")).collect();
        let _ = writeln!(self.body, r#"<polyline points="{}" class="{class}"/>"#, points.join(" "));
    }

    /// The whole file.
    pub(super) fn finish(self, height: f64) -> String {
        let body = self.body;
        format!(
            "\
<svg xmlns=\"http://www.w3.org/2000/svg\" viewBox=\"0 0 {WIDTH} {height:.0}\" width=\"{WIDTH}\" height=\"{height:.0}\">
<style>
{STYLE}</style>
<rect width=\"100%\" height=\"100%\" class=\"ground\"/>
{body}</svg>
"
        )
    }
}

fn escape(text: &str) -> String {
    text.replace('&', "&amp;").replace('<', "&lt;").replace('>', "&gt;")
}

/// About how wide a text is at the usual size, for what must not be run into. A little too much rather than too little.
pub(super) fn width(text: &str) -> f64 {
    text.chars().count() as f64 * 8.3
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn text_cannot_end_its_element() {
        let mut picture = Picture::default();
        picture.text((1.0, 2.0), "soft", "a < b & c > d");
        let text = picture.finish(10.0);
        assert!(
            text.contains(r#"<text x="1.0" y="2.0" class="soft">a &lt; b &amp; c &gt; d</text>"#),
            "{text}"
        );
        assert!(text.starts_with("<svg ") && text.ends_with("</svg>\n"));
    }
}
