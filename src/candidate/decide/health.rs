//! Whether this replica is healthy, by the results of its checks in a row.

/// What the checks have told so far.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Health {
    /// Nothing is known before the first.
    healthy: Option<bool>,
    /// How many in a row have said otherwise since.
    otherwise: u32,
}

impl Health {
    /// Whether it is healthy, as far as that is known.
    pub(super) const fn healthy(self) -> Option<bool> {
        self.healthy
    }

    /// Takes in one result; returns what that changes. The first one decides alone: a replica that
    /// starts need not wait, and one that is ill never stands.
    pub(super) fn judge(&mut self, good: bool, rise: u32, fall: u32) -> Option<bool> {
        if self.healthy == Some(good) {
            self.otherwise = 0;
            return None;
        }
        self.otherwise += 1;
        let needed = match self.healthy {
            None => 1,
            Some(_) if good => rise,
            Some(_) => fall,
        };
        if self.otherwise < needed {
            return None;
        }
        self.otherwise = 0;
        self.healthy = Some(good);
        self.healthy
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// What each result changes, with rise 2 and fall 3: `+` and `-` are results, and answers are
    /// `H` for healthy, `U` for unhealthy and `.` for no change.
    fn play(results: &str) -> String {
        let mut health = Health::default();
        let answers = results.chars().map(|result| {
            let change = health.judge(result == '+', 2, 3);
            change.map_or('.', |healthy| if healthy { 'H' } else { 'U' })
        });
        answers.collect()
    }

    #[test]
    fn the_first_result_decides_alone() {
        assert_eq!(play("+"), "H");
        assert_eq!(play("-"), "U");
    }

    #[test]
    fn only_results_in_a_row_change_anything() {
        assert_eq!(play("+---"), "H..U");
        assert_eq!(play("+--+--+---"), "H........U");
        assert_eq!(play("-+-+-++"), "U.....H");
    }

    #[test]
    fn nothing_is_said_twice() {
        assert_eq!(play("++++-------++++"), "H.....U.....H..");
    }

    #[test]
    fn one_is_enough_where_one_is_asked_for() {
        let mut health = Health::default();
        let mut judge = |good| health.judge(good, 1, 1);
        assert_eq!(judge(true), Some(true));
        assert_eq!(judge(false), Some(false));
        assert_eq!(judge(true), Some(true));
    }
}
