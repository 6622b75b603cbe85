//! Rules R1 to R3 over many inputs, and the words of the advice.

use super::*;
use crate::timing::advice::{Chosen, Remedy, Setting, Shown};
use proptest::option;
use proptest::prelude::*;

fn ms(millis: u64) -> Duration {
    Duration::from_millis(millis)
}

fn chosen(ttl: u64) -> Chosen {
    Chosen {
        ttl: ms(ttl),
        lost_grace: None,
        kill_budget: None,
        takeover_delay: None,
    }
}

/// The choice with one remedy taken, and nothing else changed.
fn taken(mut chosen: Chosen, remedy: &Remedy) -> Chosen {
    for &(setting, value) in &remedy.0 {
        match setting {
            Setting::Ttl => chosen.ttl = value,
            Setting::TakeoverDelay => chosen.takeover_delay = Some(value),
            Setting::LostGrace => chosen.lost_grace = Some(value),
            Setting::KillBudget => chosen.kill_budget = Some(value),
        }
    }
    chosen
}

fn covers_takeover(chosen: &Chosen) -> bool {
    chosen.takeover_delay() >= smallest_takeover_delay(chosen.timing().kill_budget())
}

#[test]
fn times_of_the_default_ttl() {
    let timing = chosen(15_000).timing();
    assert_eq!(timing.renewal_interval(), ms(3000));
    assert_eq!(timing.attempt_limit(), ms(1500));
    let sent = Instant::from_nanos(0);
    let deadline = timing.deadline(sent);
    let after = |at: Instant| at.since(sent).as_millis();
    assert_eq!(after(deadline), 14_785, "15 s less 15 ms and 200 ms");
    assert_eq!(after(timing.polite_stop(deadline)), 11_785);
    assert_eq!(after(timing.kill(deadline)), 13_785);
}

#[test]
fn a_tiny_ttl_has_no_lifetime_rather_than_a_negative_one() {
    let timing = Timing::new(ms(100), ms(0), ms(10));
    assert_eq!(timing.lifetime(), Duration::ZERO);
    assert!(timing.check().is_err());
}

#[test]
fn default_graces_pass_from_three_seconds_on() {
    assert!(chosen(2000).check().is_err());
    for ttl in 3..100 {
        assert_eq!(chosen(ttl * 1000).check(), Ok(()), "{ttl} s");
    }
    let none = Chosen {
        lost_grace: Some(ms(0)),
        ..chosen(2000)
    };
    assert_eq!(none.check(), Ok(()));
}

#[test]
fn advice_is_in_words() {
    let advice = Chosen {
        lost_grace: Some(ms(2000)),
        ..chosen(3000)
    };
    assert_text(
        &advice.check().expect_err("too short").to_string(),
        "expected room for lost_grace 2s + kill_budget 600ms + 1761ms in which to renew, found \
         a ttl of 3s; raise election.ttl to 7s, or lower job.lost_grace to 600ms",
    );
    let both = Timing::new(ms(2000), ms(5000), ms(5000));
    assert_text(
        &both.check().expect_err("too short").to_string(),
        "expected room for lost_grace 5s + kill_budget 5s + 1274ms in which to renew, found a \
         ttl of 2s; raise election.ttl to 17s, or lower job.lost_grace to 0s and \
         job.kill_budget to 700ms",
    );
}

#[test]
fn a_longer_default_kill_budget_takes_the_takeover_delay_along() {
    let advice = Chosen {
        lost_grace: Some(ms(3000)),
        takeover_delay: Some(ms(800)),
        ..chosen(3000)
    };
    assert_text(
        &advice.check().expect_err("too short").to_string(),
        "expected room for lost_grace 3s + kill_budget 600ms + 1761ms in which to renew, found \
         a ttl of 3s; raise election.ttl to 9s and election.takeover_delay to 1200ms, or lower \
         job.lost_grace to 600ms",
    );
}

fn assert_text(found: &str, expected: &str) {
    assert_eq!(found, expected);
}

#[test]
fn absurd_graces_get_advice_too() {
    let timing = Timing::new(ms(2000), Duration::MAX, Duration::MAX);
    let advice = timing.check().expect_err("too short");
    assert!(timing.smallest_ttl().is_none());
    assert_eq!(advice.remedies.len(), 1, "{advice}");
}

#[test]
fn spans_are_shown_in_one_unit() {
    for (millis, text) in [
        (0, "0s"),
        (600, "600ms"),
        (1500, "1500ms"),
        (15_000, "15s"),
        (90_500, "1m 30s 500ms"),
    ] {
        assert_eq!(Shown(ms(millis)).to_string(), text);
    }
}

fn any_choice() -> impl Strategy<Value = Chosen> {
    let span = || option::of((0_u64..40_000).prop_map(ms));
    (2_u64..60, span(), span(), span()).prop_map(|(ttl, lost_grace, kill_budget, delay)| Chosen {
        ttl: Duration::from_secs(ttl),
        lost_grace,
        kill_budget,
        takeover_delay: delay,
    })
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(5000))]

    #[test]
    fn every_remedy_passes_when_taken_alone(choice in any_choice()) {
        if let Err(advice) = choice.check() {
            prop_assert!(!advice.remedies.is_empty());
            for remedy in &advice.remedies {
                let taken = taken(choice, remedy);
                prop_assert_eq!(taken.check(), Ok(()), "{}", remedy);
                let covered = covers_takeover(&taken) || !covers_takeover(&choice);
                prop_assert!(covered, "{}", remedy);
            }
        }
    }

    #[test]
    fn every_remedy_goes_the_way_it_says(choice in any_choice()) {
        if let Err(advice) = choice.check() {
            let now = choice.timing();
            for &(setting, value) in advice.remedies.iter().flat_map(|remedy| &remedy.0) {
                prop_assert!(match setting {
                    Setting::Ttl => value > now.ttl,
                    Setting::TakeoverDelay => value > choice.takeover_delay(),
                    Setting::LostGrace => value <= now.lost_grace(),
                    Setting::KillBudget => value < now.kill_budget(),
                }, "{}", advice);
            }
        }
    }

    #[test]
    fn advised_values_parse_as_they_are_shown(millis in 0_u64..200_000_000) {
        let shown = Shown(ms(millis)).to_string();
        prop_assert_eq!(humantime::parse_duration(&shown), Ok(ms(millis)));
    }

    #[test]
    fn the_smallest_ttl_is_the_smallest(choice in any_choice()) {
        let timing = choice.timing();
        let smallest = timing.smallest_ttl().expect("graces are short");
        prop_assert_eq!(timing.with_ttl(smallest).check(), Ok(()));
        let shorter = smallest.saturating_sub(Duration::from_secs(1));
        prop_assert!(shorter < SMALLEST_TTL || timing.with_ttl(shorter).check().is_err());
    }

    #[test]
    fn a_ttl_that_passes_stays_passing_when_longer(choice in any_choice(), more in 0_u64..100) {
        if choice.check().is_ok() {
            let longer = Chosen { ttl: choice.ttl + Duration::from_secs(more), ..choice };
            prop_assert_eq!(longer.check(), Ok(()));
        }
    }

    #[test]
    fn r3_holds_as_the_design_writes_it(choice in any_choice()) {
        let timing = choice.timing();
        let seconds = |span: Duration| span.as_secs_f64();
        let left = seconds(timing.ttl) * (1.0 - 1e-3) - 0.2 - seconds(timing.graces().sum());
        let right = seconds(timing.ttl) / 5.0
            + 2.0 * (seconds(timing.ttl / 7).min(1.5) + 0.05);
        // On the boundary the two roundings may differ.
        prop_assume!((left - right).abs() > 1e-6);
        prop_assert_eq!(timing.check().is_ok(), left >= right);
    }

    #[test]
    fn who_comes_to_lead_with_a_waiters_oldest_renewal_has_room_for_one_that_fails(
        choice in any_choice(),
    ) {
        let timing = choice.timing();
        if choice.check().is_ok() {
            let sent = Instant::from_nanos(0);
            let claimed = sent + timing.waiting_interval();
            let left = timing.polite_stop(timing.deadline(sent)).since(claimed);
            prop_assert!(left >= timing.attempt_limit() + LARGEST_BACKOFF);
        }
    }

    #[test]
    fn the_order_of_a_term_is_polite_kill_deadline(choice in any_choice(), sent in 0_u64..1 << 60) {
        let timing = choice.timing();
        let deadline = timing.deadline(Instant::from_nanos(sent));
        prop_assert!(timing.polite_stop(deadline) <= timing.kill(deadline));
        prop_assert!(timing.kill(deadline) <= deadline);
        prop_assert!(deadline.since(Instant::from_nanos(sent)) < timing.ttl);
    }
}
