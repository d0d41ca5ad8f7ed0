//! The search: visits every reachable state once and checks what must hold in each of them, and of all together.

use std::collections::HashMap;
use std::hash::{DefaultHasher, Hash as _, Hasher as _};

use super::model::{Model, Step};
use super::rules::Rules;

/// The limit on states: a rule that lets them grow without bound fails soon.
const MOST: usize = 1_500_000;

/// The extent of a search.
#[derive(Debug, Clone, Copy)]
pub(super) struct Seen {
    pub(super) states: usize,
    pub(super) steps: usize,
    /// The disks after power cuts.
    pub(super) cuts: usize,
}

/// A violated rule, and the steps that lead there.
#[derive(Debug)]
pub(super) struct Violation {
    pub(super) what: &'static str,
    pub(super) path: Vec<Step>,
}

/// Depth first, over 64-bit digests of the states: the chance of a collision among a million is below 10⁻⁷.
#[derive(Default)]
struct Search {
    known: HashMap<u64, u32>,
    /// The first step that reached each state, and from where.
    origins: Vec<(u32, Step)>,
    /// The successors of each state without a fault.
    onwards: Vec<Vec<u32>>,
    ended: Vec<bool>,
    steps: usize,
    cuts: usize,
}

/// Takes every step in every state, with as many faults as `rules` allow. Then checks that from each state, without
/// further faults, every order of steps ends with the file installed. With `sought`, only that violation counts; the
/// search does not continue from another one.
pub(super) fn search(rules: Rules, sought: Option<&str>) -> Result<Seen, Violation> {
    let is_sought = |what: &str| sought.is_none_or(|sought| sought == what);
    let mut search = Search::default();
    let model = Model::new(rules);
    let mut stack = vec![(search.number(&model, (0, Step::Start)).0, model)];
    while let Some((at, model)) = stack.pop() {
        for step in model.steps(rules) {
            let states = match model.after(step, rules) {
                Ok(states) => states,
                Err(what) if is_sought(what) => return Err(search.violation(what, at, step)),
                Err(_) => continue,
            };
            for next in states {
                search.steps += 1;
                search.cuts += usize::from(step == Step::PowerCut);
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
            return Err(search.violation("the number of states has no bound", at, Step::Start));
        }
    }
    search.ends().or_else(|violation| if is_sought(violation.what) { Err(violation) } else { Ok(()) })?;
    Ok(Seen { states: search.origins.len(), steps: search.steps, cuts: search.cuts })
}

impl Search {
    fn number(&mut self, model: &Model, origin: (u32, Step)) -> (u32, bool) {
        let mut hasher = DefaultHasher::new();
        model.hash(&mut hasher);
        let next = self.origins.len() as u32;
        let number = *self.known.entry(hasher.finish()).or_insert(next);
        if number == next {
            self.origins.push(origin);
            self.onwards.push(Vec::new());
            self.ended.push(model.has_ended());
        }
        (number, number == next)
    }

    /// Checks that no path without a fault is circular or stops before the end: sorts the states topologically.
    fn ends(&self) -> Result<(), Violation> {
        let mut incoming = vec![0u32; self.onwards.len()];
        self.onwards.iter().flatten().for_each(|next| incoming[*next as usize] += 1);
        let mut ready: Vec<u32> =
            (0..).zip(&incoming).filter(|(_, many)| **many == 0).map(|(at, _)| at).collect();
        while let Some(at) = ready.pop() {
            let onwards = &self.onwards[at as usize];
            if onwards.is_empty() && !self.ended[at as usize] {
                return Err(self.violation("it stops before the end", at, Step::Start));
            }
            for next in onwards {
                incoming[*next as usize] -= 1;
                if incoming[*next as usize] == 0 {
                    ready.push(*next);
                }
            }
        }
        match incoming.iter().position(|many| *many > 0) {
            Some(at) => Err(self.violation("the steps are circular", at as u32, Step::Start)),
            None => Ok(()),
        }
    }

    fn violation(&self, what: &'static str, at: u32, last: Step) -> Violation {
        let mut path = vec![last];
        let mut at = at;
        while at != 0 {
            let (before, step) = self.origins[at as usize];
            path.push(step);
            at = before;
        }
        path.reverse();
        Violation { what, path }
    }
}
