//! The short forms: which pairs are linked by the shape alone.
//!
//! | shape | links |
//! |---|---|
//! | mesh | every pair |
//! | star | every pair with a hub in it; hosts that the file does not name too |
//! | ring | each with the next in order, and the last with the first |
//! | tree | each with its parent |
//! | custom | none |

use std::collections::BTreeSet;
use std::str::FromStr;

use serde::{Deserialize, Serialize};

use super::model::{LinkKind, Place};

/// A short form's name.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Shape {
    /// Every pair.
    Mesh,
    /// All with the hubs.
    Star,
    /// Each with the next.
    Ring,
    /// Each with its parent.
    Tree,
    /// What the rules say.
    Custom,
}

impl Shape {
    pub(super) const NAMES: [&'static str; 5] = ["mesh", "star", "ring", "tree", "custom"];

    /// Its word in the file.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Self::Mesh => "mesh",
            Self::Star => "star",
            Self::Ring => "ring",
            Self::Tree => "tree",
            Self::Custom => "custom",
        }
    }
}

impl FromStr for Shape {
    type Err = ();

    fn from_str(word: &str) -> Result<Self, ()> {
        [Self::Mesh, Self::Star, Self::Ring, Self::Tree, Self::Custom]
            .into_iter()
            .find(|shape| shape.name() == word)
            .ok_or(())
    }
}

/// A short form with what it needs.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Form {
    Mesh,
    Star {
        hubs: BTreeSet<usize>,
    },
    /// The hosts in order.
    Ring {
        order: Vec<usize>,
        positions: Vec<Option<usize>>,
    },
    /// The parent of each host, by number; the root and those outside have none.
    Tree {
        parents: Vec<Option<usize>>,
    },
    Custom,
}

impl Form {
    pub(super) fn ring(order: Vec<usize>, hosts: usize) -> Self {
        let mut positions = vec![None; hosts];
        for (position, number) in order.iter().enumerate() {
            positions[*number] = Some(position);
        }
        Self::Ring { order, positions }
    }

    pub(super) fn shape(&self) -> Shape {
        match self {
            Self::Mesh => Shape::Mesh,
            Self::Star { .. } => Shape::Star,
            Self::Ring { .. } => Shape::Ring,
            Self::Tree { .. } => Shape::Tree,
            Self::Custom => Shape::Custom,
        }
    }

    pub(super) fn is_hub(&self, place: Place) -> bool {
        match (self, place) {
            (Self::Star { hubs }, Some(number)) => hubs.contains(&number),
            _ => false,
        }
    }

    pub(super) fn kind(&self, a: Place, b: Place) -> LinkKind {
        let linked = match self {
            Self::Mesh => true,
            Self::Star { .. } => self.is_hub(a) || self.is_hub(b),
            Self::Ring { order, positions } => {
                match (a.and_then(|a| positions[a]), b.and_then(|b| positions[b])) {
                    (Some(a), Some(b)) => (a + 1) % order.len() == b || (b + 1) % order.len() == a,
                    _ => false,
                }
            }
            Self::Tree { parents } => match (a, b) {
                (Some(a), Some(b)) => parents[a] == Some(b) || parents[b] == Some(a),
                _ => false,
            },
            Self::Custom => false,
        };
        if linked { LinkKind::Allowed } else { LinkKind::Forbidden }
    }
}

/// A tree over `order`: the first is the root, each has `arity` below it.
pub(super) fn even_tree(order: &[usize], arity: usize, hosts: usize) -> Vec<Option<usize>> {
    let mut parents = vec![None; hosts];
    for (position, number) in order.iter().enumerate().skip(1) {
        parents[*number] = Some(order[(position - 1) / arity]);
    }
    parents
}

#[cfg(test)]
mod tests {
    use super::*;

    fn links(form: &Form, hosts: usize) -> Vec<(usize, usize)> {
        let pairs = (0..hosts).flat_map(|a| (a + 1..hosts).map(move |b| (a, b)));
        pairs.filter(|(a, b)| form.kind(Some(*a), Some(*b)) == LinkKind::Allowed).collect()
    }

    #[test]
    fn each_shape_has_its_links() {
        assert_eq!(links(&Form::Mesh, 4).len(), 6);
        assert_eq!(links(&Form::Star { hubs: BTreeSet::from([1]) }, 4), [(0, 1), (1, 2), (1, 3)]);
        assert_eq!(links(&Form::ring(vec![0, 2, 1, 3], 4), 4), [(0, 2), (0, 3), (1, 2), (1, 3)]);
        assert_eq!(
            links(&Form::Tree { parents: even_tree(&[0, 1, 2, 3], 2, 4) }, 4),
            [(0, 1), (0, 2), (1, 3)]
        );
        assert_eq!(links(&Form::Custom, 4), []);
    }

    #[test]
    fn hosts_outside_the_file_are_in_a_mesh_and_below_hubs_only() {
        let star = Form::Star { hubs: BTreeSet::from([0]) };
        assert_eq!(star.kind(None, Some(0)), LinkKind::Allowed);
        assert_eq!(star.kind(None, Some(1)), LinkKind::Forbidden);
        assert_eq!(star.kind(None, None), LinkKind::Forbidden);
        assert_eq!(Form::Mesh.kind(None, None), LinkKind::Allowed);
        assert_eq!(Form::ring(vec![0, 1], 2).kind(None, Some(0)), LinkKind::Forbidden);
    }

    #[test]
    fn names_and_shapes_are_one_to_one() {
        for name in Shape::NAMES {
            assert_eq!(name.parse::<Shape>().map(Shape::name), Ok(name));
        }
        assert_eq!("circle".parse::<Shape>(), Err(()));
    }
}
