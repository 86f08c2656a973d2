//! Where each host stands in a drawing: the same file, the same picture.
//!
//! | shape | places |
//! |---|---|
//! | star | hubs on an inner circle (one hub: the middle), the others around |
//! | ring | on a circle, linked ones side by side |
//! | tree | rows by depth, children below their parents |
//! | mesh | on a circle |
//! | custom | on a circle up to [`CIRCLE_MAX`] hosts; else forces that pull linked ones together and push all apart |
//!
//! Source for the forces: Fruchterman and Reingold 1991, with a fixed start on a circle and fixed steps in place of chance.

use super::View;
use crate::topology::shape::Shape;

/// A place; the drawing scales it.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(super) struct Place {
    pub(super) x: f64,
    pub(super) y: f64,
}

/// Hosts that a plain circle shows well.
const CIRCLE_MAX: usize = 8;
/// Above so many hosts, forces cost more than they show: each step looks at each pair.
const FORCES_MAX: usize = 150;
const STEPS: usize = 120;
/// The least distance that forces may leave between two hosts, and how far a picture is blown up for it.
const NEAREST_MIN: f64 = 60.0;
const SCALE_MAX: f64 = 4.0;
/// Hosts on the rim of a circle stand so far apart at least, in the units of the drawing.
pub(super) const APART: f64 = 110.0;
/// A circle of few hosts has room for its labels all the same.
const RADIUS_MIN: f64 = 140.0;

/// The place of each host of `view`, in its order.
pub(super) fn places(view: &View) -> Vec<Place> {
    let count = view.hosts.len();
    match view.shape {
        Shape::Star => star(view),
        Shape::Ring => ring(view),
        Shape::Tree => tree(view),
        Shape::Custom if count > CIRCLE_MAX && count <= FORCES_MAX => forces(view),
        Shape::Mesh | Shape::Custom => circle(count, radius(count)),
    }
}

fn radius(count: usize) -> f64 {
    (as_number(count) * APART / std::f64::consts::TAU).max(RADIUS_MIN)
}

/// Numbers of hosts are far below where a double loses one.
fn as_number(count: usize) -> f64 {
    f64::from(u32::try_from(count).unwrap_or(u32::MAX))
}

/// The first at the top, then clockwise.
fn circle(count: usize, radius: f64) -> Vec<Place> {
    let one = |number: usize| {
        let angle =
            std::f64::consts::TAU * as_number(number) / as_number(count.max(1)) - std::f64::consts::FRAC_PI_2;
        Place { x: radius * angle.cos(), y: radius * angle.sin() }
    };
    (0..count).map(one).collect()
}

fn star(view: &View) -> Vec<Place> {
    let hubs = view.hosts.iter().filter(|host| host.hub).count();
    let inner = if hubs == 1 { vec![Place { x: 0.0, y: 0.0 }] } else { circle(hubs, radius(hubs)) };
    let around = view.hosts.len() - hubs;
    let outer_radius = radius(around).max(if hubs > 1 { radius(hubs) + 1.5 * APART } else { 0.0 });
    let outer = circle(around, outer_radius);
    let (mut inner, mut outer) = (inner.into_iter(), outer.into_iter());
    let next = |hub: bool| if hub { inner.next() } else { outer.next() };
    view.hosts
        .iter()
        .map(|host| host.hub)
        .map(next)
        .map(|place| place.unwrap_or(Place { x: 0.0, y: 0.0 }))
        .collect()
}

/// Follows the links around; hosts outside the ring stand outside.
fn ring(view: &View) -> Vec<Place> {
    let next = neighbours(view);
    let mut order: Vec<usize> = Vec::new();
    let mut at = (0..view.hosts.len()).find(|number| !next[*number].is_empty());
    while let Some(number) = at {
        order.push(number);
        at = next[number].iter().copied().find(|other| !order.contains(other));
    }
    order.extend((0..view.hosts.len()).filter(|number| !order.contains(number)).collect::<Vec<_>>());
    let on_circle = circle(order.len(), radius(order.len()));
    let mut places = vec![Place { x: 0.0, y: 0.0 }; view.hosts.len()];
    for (number, place) in order.into_iter().zip(on_circle) {
        places[number] = place;
    }
    places
}

fn neighbours(view: &View) -> Vec<Vec<usize>> {
    let mut next = vec![Vec::new(); view.hosts.len()];
    for link in &view.links {
        let [a, b] = link.between;
        next[a].push(b);
        next[b].push(a);
    }
    next
}

/// Rows by distance from the root, which is the first host that has a link; each row in the order of its parents.
fn tree(view: &View) -> Vec<Place> {
    let next = neighbours(view);
    let mut rows: Vec<Vec<usize>> = Vec::new();
    let mut placed = vec![false; view.hosts.len()];
    let mut row: Vec<usize> =
        (0..view.hosts.len()).find(|number| !next[*number].is_empty()).into_iter().collect();
    while !row.is_empty() {
        row.iter().for_each(|number| placed[*number] = true);
        let mut below = Vec::new();
        for number in &row {
            below.extend(next[*number].iter().copied().filter(|child| !placed[*child]));
        }
        below.dedup();
        rows.push(std::mem::replace(&mut row, below));
    }
    rows.push((0..view.hosts.len()).filter(|number| !placed[*number]).collect());
    let widest = rows.iter().map(Vec::len).max().unwrap_or(1);
    let width = as_number(widest) * APART;
    let mut places = vec![Place { x: 0.0, y: 0.0 }; view.hosts.len()];
    for (depth, row) in rows.iter().enumerate() {
        for (at, number) in row.iter().enumerate() {
            let x = width * (as_number(at) + 0.5) / as_number(row.len());
            places[*number] = Place { x, y: as_number(depth) * APART };
        }
    }
    places
}

fn forces(view: &View) -> Vec<Place> {
    let count = view.hosts.len();
    let mut places = circle(count, radius(count));
    let mut step = APART;
    for _ in 0..STEPS {
        let mut moves = vec![Place { x: 0.0, y: 0.0 }; count];
        for a in 0..count {
            for b in a + 1..count {
                push(&places, &mut moves, a, b, |distance| APART * APART / distance);
            }
        }
        for link in &view.links {
            let [a, b] = link.between;
            push(&places, &mut moves, a, b, |distance| -distance * distance / APART / 2.0);
        }
        for (place, wanted) in places.iter_mut().zip(&moves) {
            let length = wanted.x.hypot(wanted.y).max(1e-9);
            let scale = length.min(step) / length;
            place.x += wanted.x * scale;
            place.y += wanted.y * scale;
        }
        step *= 0.97;
    }
    let nearest = least_distance(&places);
    if nearest < NEAREST_MIN {
        // Names must not cover each other; a picture of any size can be looked at.
        let scale = (NEAREST_MIN / nearest.max(1.0)).min(SCALE_MAX);
        places.iter_mut().for_each(|place| (place.x, place.y) = (place.x * scale, place.y * scale));
    }
    places
}

fn least_distance(places: &[Place]) -> f64 {
    let pairs = (0..places.len()).flat_map(|a| (a + 1..places.len()).map(move |b| (a, b)));
    pairs.map(|(a, b)| (places[a].x - places[b].x).hypot(places[a].y - places[b].y)).fold(f64::MAX, f64::min)
}

/// Moves `a` and `b` apart by a force of their distance; a negative one draws them together.
fn push(places: &[Place], moves: &mut [Place], a: usize, b: usize, force: impl Fn(f64) -> f64) {
    let (x, y) = (places[a].x - places[b].x, places[a].y - places[b].y);
    let distance = x.hypot(y).max(1.0);
    let strength = force(distance) / distance;
    moves[a].x += x * strength;
    moves[a].y += y * strength;
    moves[b].x -= x * strength;
    moves[b].y -= y * strength;
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use super::*;
    use crate::topology::model::Topology;
    use crate::topology::show::view;
    use crate::topology::testing::file;

    fn placed(head: &str, hosts: usize, tail: &str) -> Vec<Place> {
        places(&view(&Topology::parse(&file(head, hosts, tail)).unwrap(), &BTreeSet::new(), None))
    }

    #[test]
    fn every_shape_leaves_room_between_hosts_and_is_drawn_alike_each_time() {
        for (head, hosts) in [
            ("", 5),
            ("", 30),
            ("shape = \"star\"\nhubs = \"h0\"", 20),
            ("shape = \"star\"\nhubs = [\"h0\", \"h1\", \"h2\"]", 30),
            ("shape = \"ring\"", 24),
            ("shape = \"tree\"\narity = 3", 40),
            ("shape = \"custom\"", 30),
        ] {
            let links: String = (1..hosts)
                .map(|b| format!("[[link]]\nbetween = [\"h{}\", \"h{b}\"]\nrule = \"allowed\"\n", b / 3))
                .collect();
            let tail = if head.contains("custom") { links.as_str() } else { "" };
            let places = placed(head, hosts, tail);
            assert_eq!(places, placed(head, hosts, tail), "{head}");
            assert_eq!(places.len(), hosts);
            let least = least_distance(&places);
            assert!(least > 40.0, "{head} {hosts}: {least}");
        }
    }

    #[test]
    fn the_hub_of_a_star_is_in_the_middle() {
        assert_eq!(placed("shape = \"star\"\nhubs = \"h1\"", 4, "")[1], Place { x: 0.0, y: 0.0 });
    }

    #[test]
    fn linked_hosts_of_a_ring_stand_side_by_side() {
        let places = placed("shape = \"ring\"\norder = [\"h0\", \"h2\", \"h4\", \"h1\", \"h3\"]", 5, "");
        let distance = |a: usize, b: usize| (places[a].x - places[b].x).hypot(places[a].y - places[b].y);
        assert!(distance(0, 2) < distance(0, 4));
        assert!((distance(0, 2) - distance(4, 1)).abs() < 1e-6);
    }
}
