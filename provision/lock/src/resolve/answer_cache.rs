//! Answers of hosts by question: each is asked once, also by callers at the same time.

use std::cell::RefCell;
use std::collections::HashMap;
use std::hash::Hash;
use std::rc::Rc;

use tokio::sync::OnceCell;

/// Answers by question. A failure is not kept: the next caller asks again.
#[derive(Debug)]
pub(super) struct AnswerCache<Q, A>(RefCell<HashMap<Q, Rc<OnceCell<A>>>>);

impl<Q, A> Default for AnswerCache<Q, A> {
    fn default() -> Self {
        Self(RefCell::default())
    }
}

impl<Q: Eq + Hash, A: Clone> AnswerCache<Q, A> {
    /// The answer to `question`; `ask` brings it, if no other call does.
    pub(super) async fn get<E, F>(&self, question: Q, ask: impl FnOnce() -> F) -> Result<A, E>
    where
        F: Future<Output = Result<A, E>>,
    {
        let cell = self.0.borrow_mut().entry(question).or_default().clone();
        cell.get_or_try_init(|| Box::pin(ask())).await.cloned()
    }

    /// Adds an answer that another question brought.
    pub(super) fn put(&self, question: Q, answer: A) {
        self.0.borrow_mut().entry(question).or_insert_with(|| Rc::new(OnceCell::new_with(Some(answer))));
    }
}
