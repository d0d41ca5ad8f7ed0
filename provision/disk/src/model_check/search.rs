//! Every state that can be reached, once each, and what must hold of all of them together.

use std::collections::HashMap;
use std::hash::{DefaultHasher, Hash as _, Hasher as _};

use super::Rules;
use super::world::{Step, World};

/// More states than any of the searches here should have: a rule that lets them grow without bound is found soon.
const MOST: usize = 1_500_000;

/// What a search has seen.
#[derive(Debug, Clone, Copy)]
pub(super) struct Seen {
    pub(super) states: usize,
    pub(super) steps: usize,
    /// Disks that a power cut left.
    pub(super) cuts: usize,
}

/// A way to something that must not be.
#[derive(Debug)]
pub(super) struct Violation {
    pub(super) what: &'static str,
    pub(super) way: Vec<Step>,
}

/// Depth first, over the states' digests: 128 bits, so that no two of a few million are taken for one.
#[derive(Default)]
struct Search {
    known: HashMap<u128, u32>,
    /// How each state was reached first.
    origins: Vec<(u32, Step)>,
    /// Where each state leads without a fault.
    onwards: Vec<Vec<u32>>,
    ended: Vec<bool>,
    steps: usize,
    cuts: usize,
}

/// Takes every step in every state, faults as far as `rules` allow. Then: from each state, whatever order the steps come
/// in, a world without further faults ends, with the file installed. With `sought` only that is a violation: from whatever
/// else must not be the search does not go on.
pub(super) fn search(rules: &Rules, sought: Option<&str>) -> Result<Seen, Violation> {
    let is_sought = |what: &str| sought.is_none_or(|sought| sought == what);
    let mut search = Search::default();
    let world = World::new(rules);
    let mut stack = vec![(search.number(&world, (0, Step::Start)).0, world)];
    while let Some((at, world)) = stack.pop() {
        for step in world.steps(rules) {
            let worlds = match world.after(step, rules) {
                Ok(worlds) => worlds,
                Err(what) if is_sought(what) => return Err(search.violation(what, at, step)),
                Err(_) => continue,
            };
            for (next, is_cut) in worlds {
                search.steps += 1;
                search.cuts += usize::from(is_cut);
                match next.holds(rules) {
                    Ok(()) => {}
                    Err(what) if is_sought(what) => return Err(search.violation(what, at, step)),
                    Err(_) => continue,
                }
                let (number, is_new) = search.number(&next, (at, step));
                if !step.is_fault() {
                    search.onwards[at as usize].push(number);
                }
                if is_new {
                    stack.push((number, next));
                }
            }
        }
        if search.origins.len() > MOST {
            return Err(search.violation("there is no end of states", at, Step::Start));
        }
    }
    search.ends().or_else(|violation| if is_sought(violation.what) { Err(violation) } else { Ok(()) })?;
    Ok(Seen { states: search.origins.len(), steps: search.steps, cuts: search.cuts })
}

impl Search {
    fn number(&mut self, world: &World, origin: (u32, Step)) -> (u32, bool) {
        let digest = |salt: u8| {
            let mut hasher = DefaultHasher::new();
            salt.hash(&mut hasher);
            world.hash(&mut hasher);
            hasher.finish()
        };
        let key = u128::from(digest(0)) << 64 | u128::from(digest(1));
        let next = self.origins.len() as u32;
        let number = *self.known.entry(key).or_insert(next);
        if number == next {
            self.origins.push(origin);
            self.onwards.push(Vec::new());
            self.ended.push(world.has_ended());
        }
        (number, number == next)
    }

    /// No circle without a fault, and no way that stops before the end.
    fn ends(&self) -> Result<(), Violation> {
        // 0: not seen, 1: on the way, 2: known to end.
        let mut colour = vec![0u8; self.onwards.len()];
        for root in 0..self.onwards.len() {
            let mut way = vec![(root, 0)];
            while let Some((at, taken)) = way.last_mut() {
                if *taken == 0 && colour[*at] == 2 {
                    way.pop();
                    continue;
                }
                colour[*at] = 1;
                if let Some(next) = self.onwards[*at].get(*taken) {
                    *taken += 1;
                    let next = *next as usize;
                    match colour[next] {
                        0 => way.push((next, 0)),
                        1 => {
                            return Err(self.violation("it goes round in circles", next as u32, Step::Start));
                        }
                        _ => {}
                    }
                } else {
                    if self.onwards[*at].is_empty() && !self.ended[*at] {
                        return Err(self.violation("it stops before the end", *at as u32, Step::Start));
                    }
                    colour[*at] = 2;
                    way.pop();
                }
            }
        }
        Ok(())
    }

    fn violation(&self, what: &'static str, at: u32, last: Step) -> Violation {
        let mut way = vec![last];
        let mut at = at;
        while at != 0 {
            let (before, step) = self.origins[at as usize];
            way.push(step);
            at = before;
        }
        way.reverse();
        Violation { what, way }
    }
}
