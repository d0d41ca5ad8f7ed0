//! Bar charts as hand-written SVG: text and a few shapes need no library.
//!
//! The picture has a ground of its own, so it is legible on any page.

use std::fmt::Write as _;

/// Legible in the column of a README.
const WIDTH: f64 = 860.0;
const MARGIN: f64 = 16.0;
/// The start of the bars, right of their labels.
const LEFT: f64 = 250.0;
/// The end of the longest bar, left of its text.
const RIGHT: f64 = WIDTH - 190.0;
const ROW: f64 = 22.0;
const BAR: f64 = 15.0;

const STYLE: &str = "\
text { font: 13px 'DejaVu Sans', Verdana, Helvetica, Arial, sans-serif; fill: #1f2328; }
.title { font-size: 16px; font-weight: bold; }
.caption { fill: #59636e; font-size: 12px; }
.label { text-anchor: end; }
.ground { fill: #ffffff; }
.accent { fill: #0b6e4f; stroke: #0b6e4f; }
.plain { fill: #8c96a3; stroke: #8c96a3; }
.pale { fill: #d3d9e0; stroke: #8c96a3; }
.mark { stroke: #b35900; stroke-width: 1.5; stroke-dasharray: 4 3; fill: none; }
.axis { stroke: #c6cdd5; stroke-width: 1; fill: none; }
";

/// The classes of bars.
pub(super) const ACCENT: &str = "accent";
pub(super) const PLAIN: &str = "plain";
pub(super) const PALE: &str = "pale";

/// Bars that share a scale.
#[derive(Debug)]
pub(super) struct Panel {
    pub(super) title: String,
    /// Each on a line.
    pub(super) captions: Vec<String>,
    pub(super) bars: Vec<Bar>,
}

/// A bar with a label before it and a text behind it.
#[derive(Debug)]
pub(super) struct Bar {
    pub(super) label: String,
    pub(super) length: f64,
    pub(super) class: &'static str,
    pub(super) text: String,
    /// A length to compare with.
    pub(super) mark: Option<f64>,
}

/// Draws the panels below each other. The legend has the meaning of each class, and that of a mark.
pub(super) fn bar_chart(classes: &[(&str, &str)], mark: &str, panels: &[Panel]) -> String {
    let mut picture = Picture::default();
    let mut y = picture.legend(classes, mark);
    for panel in panels {
        y = picture.panel(panel, y);
    }
    picture.finish(y)
}

/// A picture in the making: later elements cover earlier ones.
#[derive(Debug, Default)]
struct Picture {
    body: String,
}

impl Picture {
    /// Draws the legend at the top. Returns the place below it, as all parts do.
    fn legend(&mut self, classes: &[(&str, &str)], mark: &str) -> f64 {
        let (mut x, y) = (MARGIN, MARGIN + 12.0);
        for (class, meaning) in classes {
            self.rectangle((x, y - 11.0), (14.0, 12.0), class);
            self.text((x + 20.0, y), "", meaning);
            // Characters are a little narrower than this.
            x += 36.0 + meaning.chars().count() as f64 * 8.3;
        }
        self.line((x, y - 5.0), (x + 22.0, y - 5.0), "mark");
        self.text((x + 28.0, y), "", mark);
        y + 14.0
    }

    fn panel(&mut self, panel: &Panel, top: f64) -> f64 {
        let mut y = top + 28.0;
        self.text((MARGIN, y), "title", &panel.title);
        y += 18.0;
        for line in &panel.captions {
            self.text((MARGIN, y), "caption", line);
            y += 16.0;
        }
        let lengths = panel.bars.iter().flat_map(|bar| [Some(bar.length), bar.mark]).flatten();
        let scale = (RIGHT - LEFT) / lengths.fold(f64::MIN_POSITIVE, f64::max);
        for bar in &panel.bars {
            let length = bar.length * scale;
            self.text((LEFT - 8.0, y + 12.0), "label", &bar.label);
            self.rectangle((LEFT, y), (length.max(1.0), BAR), bar.class);
            self.text((LEFT + length + 8.0, y + 12.0), "", &bar.text);
            self.line((LEFT, y - 3.0), (LEFT, y - 3.0 + ROW), "axis");
            if let Some(mark) = bar.mark {
                let x = LEFT + mark * scale;
                self.line((x, y - 3.0), (x, y - 3.0 + ROW), "mark");
            }
            y += ROW;
        }
        y + 4.0
    }

    fn text(&mut self, (x, y): (f64, f64), class: &str, text: &str) {
        let text = text.replace('&', "&amp;").replace('<', "&lt;").replace('>', "&gt;");
        let _ = writeln!(self.body, r#"<text x="{x:.1}" y="{y:.1}" class="{class}">{text}</text>"#);
    }

    fn rectangle(&mut self, (x, y): (f64, f64), (width, height): (f64, f64), class: &str) {
        let size = format!(r#"width="{width:.1}" height="{height:.1}""#);
        let _ = writeln!(self.body, r#"<rect x="{x:.1}" y="{y:.1}" {size} class="{class}"/>"#);
    }

    fn line(&mut self, (x1, y1): (f64, f64), (x2, y2): (f64, f64), class: &str) {
        let ends = format!(r#"x1="{x1:.1}" y1="{y1:.1}" x2="{x2:.1}" y2="{y2:.1}""#);
        let _ = writeln!(self.body, r#"<line {ends} class="{class}"/>"#);
    }

    /// The whole file.
    fn finish(self, height: f64) -> String {
        let size = format!(r#"viewBox="0 0 {WIDTH} {height:.0}" width="{WIDTH}" height="{height:.0}""#);
        let ground = r#"<rect width="100%" height="100%" class="ground"/>"#;
        format!(
            "<svg xmlns=\"http://www.w3.org/2000/svg\" {size}>\n<style>\n{STYLE}</style>\n{ground}\n{}</svg>\n",
            self.body
        )
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lengths_are_to_scale_and_text_is_escaped() {
        let bar = |label: &str, length, class, mark| Bar {
            label: label.to_owned(),
            length,
            class,
            text: format!("{length} s"),
            mark,
        };
        let bars = vec![bar("one", 5.0, ACCENT, Some(2.5)), bar("a < b & c > d", 10.0, PALE, None)];
        let panel = Panel { title: "time".to_owned(), captions: vec!["seconds".to_owned()], bars };
        let text = bar_chart(&[(ACCENT, "ours"), (PALE, "unverified")], "ideal", &[panel]);
        for part in [
            r#"width="210.0" height="15.0" class="accent""#,
            r#"width="420.0" height="15.0" class="pale""#,
            r#"<line x1="355.0""#,
            r#"class="label">a &lt; b &amp; c &gt; d</text>"#,
            ">10 s</text>",
            ">unverified</text>",
        ] {
            assert!(text.contains(part), "{part}\n{text}");
        }
        assert!(text.starts_with("<svg ") && text.ends_with("</svg>\n"));
    }
}
