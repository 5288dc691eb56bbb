//! How full the tables are, and how often something new comes: what tells whether a model is too small.

/// Counts of the features and crosses that were learned.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Usage {
    /// All of them, as often as they came.
    pub met: u64,
    /// Those whose place in the tables was free.
    pub new: u64,
}

/// How well features fit into the tables.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Fill {
    /// Share of features and crosses, of all that came, that had never come before.
    pub unseen_rate: f64,
    /// Share of places that are taken: the probability that something new shares a place with something else.
    pub collision_rate: f64,
}

impl Usage {
    #[inline]
    pub fn met(&mut self, new: bool) {
        self.met += 1;
        self.new += u64::from(new);
    }

    pub fn fill(&self, places: usize) -> Fill {
        Fill {
            unseen_rate: self.new as f64 / self.met.max(1) as f64,
            collision_rate: self.new as f64 / places.max(1) as f64,
        }
    }
}
