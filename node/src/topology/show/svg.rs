//! The drawing: one SVG file that needs nothing else, legible on a light and on a dark ground.
//!
//! Colours are chosen by the reader's preference (CSS `prefers-color-scheme`); what a link or a host is shows by form as well as by colour, so that
//! a print in black says the same. Every text from a file is escaped.

use std::fmt::Write;

use super::layout::{self, Place};
use super::{View, kind_word, role_words};
use crate::topology::model::LinkKind;

/// Room around the outermost hosts for their names.
const MARGIN: f64 = 90.0;
/// A name longer than this is cut; the whole stands in the tooltip.
const LABEL_CHARS_MAX: usize = 18;
const HOST_RADIUS: f64 = 12.0;
/// The key to the forms, below the drawing.
const LEGEND_HEIGHT: f64 = 70.0;
const WIDTH_MIN: f64 = 420.0;

const STYLE: &str = "svg{background:#fff;font:12px system-ui,sans-serif}\
text{fill:#1c2733}.small{font-size:11px;fill:#5a6875}\
.link{stroke:#8a97a3;stroke-width:1.2}.static{stroke:#1f5f99;stroke-width:2.6}.added{stroke:#b3590a;stroke-width:2;stroke-dasharray:7 4}\
.broken{stroke:#c0303a;stroke-width:1.4;stroke-dasharray:2 4}\
.host{fill:#e8eef3;stroke:#3d4d5c;stroke-width:1.6}.relay{fill:#cfe3f5;stroke:#1f5f99}.exit{fill:#dcefd8;stroke:#2f7d32}\
.closed{fill:#f3e3e4;stroke:#a1343c}.stranger{fill:none;stroke-dasharray:3 3}\
@media(prefers-color-scheme:dark){svg{background:#12181e}text{fill:#e6edf3}.small{fill:#9aa8b5}\
.link{stroke:#6b7885}.static{stroke:#6db3f2}.added{stroke:#f0a04b}.broken{stroke:#f0707a}\
.host{fill:#26323d;stroke:#9fb0bf}.relay{fill:#17395a;stroke:#6db3f2}.exit{fill:#1d3d22;stroke:#7cc47f}.closed{fill:#43242a;stroke:#e0828a}.stranger{fill:none}}";

/// Draws `view`.
#[must_use]
pub fn svg(view: &View) -> String {
    let places = layout::places(view);
    let frame = Frame::around(&places);
    let mut out = String::new();
    let (width, height) = (frame.width, frame.height + LEGEND_HEIGHT);
    let title = view.name.clone().unwrap_or_else(|| view.shape.name().to_owned());
    let said =
        format!("Topology {title}: {} hosts, {} links", view.hosts.len(), view.links.len() + view.more_links);
    put(
        &mut out,
        format_args!(
            "<svg xmlns=\"http://www.w3.org/2000/svg\" viewBox=\"0 0 {width:.0} {height:.0}\" width=\"{width:.0}\" height=\"{height:.0}\" role=\"img\">\n\
         <title>{}</title>\n<style>{STYLE}</style>\n",
            escaped(&said)
        ),
    );
    for link in &view.links {
        let [a, b] = link.between;
        let (from, to) = (frame.place(places[a]), frame.place(places[b]));
        let class = match (link.rule, link.added) {
            (LinkKind::Forbidden, _) => "broken",
            (_, true) => "added",
            (LinkKind::Static, _) => "static",
            (LinkKind::Allowed, _) => "link",
        };
        let mut words = format!(
            "{} - {}: {}, cost {}",
            view.hosts[a].name,
            view.hosts[b].name,
            kind_word(link.rule),
            link.cost
        );
        if let Some(rate) = link.rate {
            words += &format!(", at most {rate}");
        }
        put(
            &mut out,
            format_args!(
                "<line class=\"{class}\" x1=\"{:.1}\" y1=\"{:.1}\" x2=\"{:.1}\" y2=\"{:.1}\"><title>{}</title></line>\n",
                from.x,
                from.y,
                to.x,
                to.y,
                escaped(&words)
            ),
        );
    }
    for (host, place) in view.hosts.iter().zip(&places) {
        draw_host(&mut out, host, frame.place(*place), frame.middle());
    }
    legend(&mut out, view, &said, frame.height);
    out.push_str("</svg>\n");
    out
}

fn draw_host(out: &mut String, host: &super::HostView, at: Place, middle: Place) {
    let class = if host.roles.no_transit {
        "host closed"
    } else if host.roles.relay || host.hub {
        "host relay"
    } else if host.roles.exit {
        "host exit"
    } else if host.named {
        "host"
    } else {
        "host stranger"
    };
    let mut words = vec![host.name.as_str(), host.id.as_str()];
    words.dedup();
    let roles = role_words(host);
    words.extend(&roles);
    let tip = escaped(&words.join(", "));
    let (x, y, r) = (at.x, at.y, HOST_RADIUS);
    // A square forwards, a triangle leads out, a circle does neither.
    let form = if host.roles.relay || host.hub {
        format!(
            "<rect x=\"{:.1}\" y=\"{:.1}\" width=\"{w:.1}\" height=\"{w:.1}\" rx=\"3\"",
            x - r,
            y - r,
            w = 2.0 * r
        )
    } else if host.roles.exit {
        format!(
            "<path d=\"M{:.1} {:.1}L{:.1} {:.1}L{:.1} {:.1}Z\"",
            x,
            y - r * 1.2,
            x + r * 1.2,
            y + r,
            x - r * 1.2,
            y + r
        )
    } else {
        format!("<circle cx=\"{x:.1}\" cy=\"{y:.1}\" r=\"{r:.1}\"")
    };
    // Names stand away from the middle, where the links are.
    let below = y >= middle.y - 1.0;
    let label_y = if below { y + r + 16.0 } else { y - r - 8.0 };
    put(
        out,
        format_args!(
            "<g>{form} class=\"{class}\"><title>{tip}</title>{}<text x=\"{x:.1}\" y=\"{label_y:.1}\" text-anchor=\"middle\">{}</text></g>\n",
            closing(&form),
            escaped(&label(host))
        ),
    );
}

fn closing(form: &str) -> &'static str {
    match form.as_bytes().get(1) {
        Some(b'r') => "</rect>",
        Some(b'p') => "</path>",
        _ => "</circle>",
    }
}

/// A name, or the end of an id: ids begin alike.
fn label(host: &super::HostView) -> String {
    let chars: Vec<char> = host.name.chars().collect();
    if chars.len() <= LABEL_CHARS_MAX {
        return host.name.clone();
    }
    if host.name == host.id {
        return format!("…{}", chars[chars.len() - 8..].iter().collect::<String>());
    }
    format!("{}…", chars[..LABEL_CHARS_MAX - 1].iter().collect::<String>())
}

fn legend(out: &mut String, view: &View, said: &str, top: f64) {
    let more = if view.more_links > 0 {
        format!("; {} links are not drawn", view.more_links)
    } else {
        String::new()
    };
    put(
        out,
        format_args!("<text x=\"16\" y=\"{:.1}\">{}</text>\n", top + 16.0, escaped(&format!("{said}{more}"))),
    );
    let y = top + 38.0;
    let mut x = 16.0;
    for (class, word) in [("link", "on demand"), ("static", "always"), ("added", "added for its traffic")] {
        put(
            out,
            format_args!(
                "<line class=\"{class}\" x1=\"{x:.0}\" y1=\"{y:.0}\" x2=\"{:.0}\" y2=\"{y:.0}\"/><text class=\"small\" x=\"{:.0}\" y=\"{:.0}\">{word}</text>\n",
                x + 26.0,
                x + 32.0,
                y + 4.0
            ),
        );
        x += 110.0;
    }
    put(
        out,
        format_args!(
            "<text class=\"small\" x=\"16\" y=\"{:.0}\">square: forwards for others; triangle: exit; red: forwards for nobody</text>\n",
            y + 22.0
        ),
    );
}

/// From the layout's units to the drawing's.
struct Frame {
    left: f64,
    top: f64,
    width: f64,
    height: f64,
}

impl Frame {
    fn around(places: &[Place]) -> Self {
        let least =
            |of: fn(&Place) -> f64| places.iter().map(of).fold(f64::MAX, f64::min).min(f64::MAX / 4.0);
        let most = |of: fn(&Place) -> f64| places.iter().map(of).fold(f64::MIN, f64::max).max(f64::MIN / 4.0);
        if places.is_empty() {
            return Self { left: 0.0, top: 0.0, width: WIDTH_MIN, height: MARGIN };
        }
        let (left, right) = (least(|place| place.x), most(|place| place.x));
        let (top, bottom) = (least(|place| place.y), most(|place| place.y));
        let width = (right - left + 2.0 * MARGIN).max(WIDTH_MIN);
        let spare = (width - (right - left)) / 2.0;
        Self { left: left - spare, top: top - MARGIN / 2.0, width, height: bottom - top + MARGIN }
    }

    fn place(&self, place: Place) -> Place {
        Place { x: place.x - self.left, y: place.y - self.top }
    }

    fn middle(&self) -> Place {
        Place { x: self.width / 2.0, y: self.height / 2.0 }
    }
}

fn escaped(text: &str) -> String {
    let mut out = String::with_capacity(text.len());
    for c in text.chars() {
        match c {
            '&' => out.push_str("&amp;"),
            '<' => out.push_str("&lt;"),
            '>' => out.push_str("&gt;"),
            '"' => out.push_str("&quot;"),
            // XML has no form for most control characters.
            c if c.is_control() => out.push(' '),
            c => out.push(c),
        }
    }
    out
}

fn put(out: &mut String, words: std::fmt::Arguments<'_>) {
    out.write_fmt(words).expect("a string takes whatever is written");
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use super::*;
    use crate::topology::model::Topology;
    use crate::topology::show::view;
    use crate::topology::testing::{file, host};

    fn drawn(head: &str, hosts: usize, tail: &str) -> String {
        svg(&view(&Topology::parse(&file(head, hosts, tail)).unwrap(), &BTreeSet::new(), None))
    }

    /// Every tag that opens closes, in order.
    fn assert_well_formed(svg: &str) {
        let mut open: Vec<&str> = Vec::new();
        for tag in svg.split('<').skip(1) {
            let (inside, _) = tag.split_once('>').expect("a tag ends");
            if let Some(name) = inside.strip_prefix('/') {
                assert_eq!(open.pop(), Some(name), "{svg}");
            } else if !inside.ends_with('/') {
                open.push(inside.split(' ').next().unwrap());
            }
        }
        assert_eq!(open, [""; 0]);
    }

    #[test]
    fn every_host_and_link_is_drawn_and_the_file_is_well_formed() {
        for (head, links) in [
            ("", 15),
            ("shape = \"star\"\nhubs = \"h0\"", 5),
            ("shape = \"ring\"", 6),
            ("shape = \"tree\"", 5),
        ] {
            let svg = drawn(head, 6, "[roles]\nexit = \"h3\"\nno-transit = \"h5\"\n[adapt]\n");
            assert_well_formed(&svg);
            assert_eq!(
                svg.matches("<line class=\"link\"").count(),
                links + 1,
                "{head}: and one in the legend"
            );
            assert_eq!(svg.matches("<g>").count(), 6);
        }
        assert_well_formed(&svg(&view(&Topology::default(), &BTreeSet::new(), None)));
        assert_well_formed(&svg(&view(&Topology::default(), &BTreeSet::from([host(1)]), None)));
    }

    #[test]
    fn names_cannot_break_out_of_the_drawing() {
        let svg = drawn("name = \"</title><script>&\"", 2, "");
        assert_well_formed(&svg);
        assert!(!svg.contains("<script"));
    }

    #[test]
    fn both_grounds_have_colours() {
        assert!(drawn("", 2, "").contains("prefers-color-scheme:dark"));
    }
}
