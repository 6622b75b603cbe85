//! The rules of starting and of giving back, over random orders of all that can be told.

use proptest::prelude::*;

use super::*;

/// What stands outside of the mind, as far as the rules speak of it.
#[derive(Debug, Default)]
#[expect(clippy::struct_excessive_bools, reason = "each is a fact of its own")]
struct Outside {
    contending: bool,
    leads: bool,
    /// A stop has begun.
    stops: bool,
    /// A run was asked for, and its tree was not proven empty since: its number.
    tree: Option<u64>,
    unfenced: bool,
    gave_back: bool,
    over: bool,
}

/// What can be told, by a number.
fn told(number: u8, run: u64) -> Event {
    match number {
        0..=3 => Event::Tick,
        4..=9 => elected(),
        10 => Event::Lost(Loss::Revoked),
        11..=14 => Event::Left(Left::Revoked),
        15 => Event::Guardian(Report::Refused {
            run,
            reason: crate::guardian::protocol::Refusal::Deadline,
        }),
        16..=19 => ended(run, i32::from(number % 2)),
        20..=25 => empty(run),
        26 => stopping(),
        27 => Event::GuardianGone,
        28..=30 => Event::Fenced,
        31..=33 => Event::Guarded,
        34 => Event::Order(Order::Shutdown),
        35 => Event::Order(Order::ShutdownNow),
        _ => Event::MakeWay,
    }
}

impl Outside {
    /// Whether that can happen now: proofs come only of what is true.
    fn allows(&self, event: &Event) -> bool {
        match event {
            Event::Elected(_) => self.contending && !self.leads && !self.gave_back,
            Event::Left(_) => self.gave_back,
            Event::Guardian(Report::Empty { .. } | Report::Stopping { .. }) => {
                self.leads && !self.unfenced
            }
            Event::Fenced => self.unfenced,
            Event::Guarded => !self.unfenced,
            Event::Guardian(Report::MainEnded { .. } | Report::Refused { .. }) => {
                self.tree.is_some() && !self.unfenced
            }
            Event::Lost(_) => self.contending,
            _ => true,
        }
    }

    fn happened(&mut self, event: &Event) {
        match event {
            Event::Elected(_) => self.leads = true,
            Event::Left(_) => {
                let unfenced = self.unfenced;
                *self = Self {
                    unfenced,
                    ..Self::default()
                };
            }
            Event::Guardian(Report::Empty { .. }) => self.tree = None,
            Event::Fenced => (self.tree, self.unfenced) = (None, false),
            _ => {}
        }
    }

    /// Checks an action against the rules, and carries it out.
    fn act(&mut self, action: &Action) -> Result<(), &'static str> {
        let starts = matches!(action, Action::Start { .. });
        let gives_back = matches!(action, Action::Contest(Command::GiveBack(..)));
        let contends = matches!(action, Action::Prepare(_));
        let rule = match () {
            () if starts && !self.leads => "R4: a start without a complete claim",
            () if starts && self.stops => "R4: a start after a stop has begun",
            () if starts && self.tree.is_some() => "R4: a start while the tree isn't empty",
            () if starts && self.unfenced => "R4: a start without a guardian",
            () if gives_back && self.tree.is_some() => "R5: given back while the tree isn't empty",
            () if gives_back && self.gave_back => "given back twice",
            () if contends && self.contending => "a candidacy too many",
            () if self.over => "something after the exit",
            () => {
                self.carry_out(action);
                return Ok(());
            }
        };
        Err(rule)
    }

    fn carry_out(&mut self, action: &Action) {
        match action {
            Action::Prepare(_) => self.contending = true,
            Action::Start { run, .. } => self.tree = Some(*run),
            Action::Tell(Request::Stop { .. } | Request::Kill { .. }) => self.stops = true,
            Action::Fence { .. } => {
                self.unfenced = true;
                self.stops |= self.leads;
            }
            Action::Contest(Command::GiveBack(..)) => self.gave_back = true,
            Action::Exit => self.over = true,
            _ => {}
        }
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(2000))]

    #[test]
    fn nothing_that_can_be_told_breaks_the_rules_of_starting_and_giving_back(
        numbers in prop::collection::vec((0_u8..38, 0_u64..3000), 1..120),
    ) {
        let (mut play, mut outside, mut now) = (Play::new(), Outside::default(), 0);
        for (number, pause) in numbers {
            let event = told(number, outside.tree.unwrap_or(play.0.runs));
            now += pause;
            if outside.over || !outside.allows(&event) {
                continue;
            }
            outside.happened(&event);
            for action in play.0.handle(event.clone(), super::now(now), now) {
                if let Err(rule) = outside.act(&action) {
                    prop_assert!(false, "{rule}: {action:?} on {event:?}");
                }
            }
        }
    }
}
