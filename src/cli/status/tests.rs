//! What `incumbent status` prints of an election.

use super::*;
use crate::keys::LeaseId;
use crate::revision::{Revision, Token};
use crate::schedule::Occasion;
use crate::schedule::record::{Exit, Open, Outcome, State};
use crate::term::record::{Turn, Unkillable};

fn candidate(position: usize, name: &str, token: i64) -> CandidateStatus {
    let lease = LeaseId::new(0x3269_6bd0_d159_d067 + token).unwrap();
    let prefix = Prefix::new("/backup");
    CandidateStatus {
        position,
        name: name.to_owned(),
        lease,
        token: Token::at(Revision::new(token)),
        key: prefix.candidate(lease),
        ttl: 15,
        lease_remaining_s: Some(12),
        host: Some("alpha".to_owned()),
        pid: Some(17),
        version: Some("0.1.0".to_owned()),
        since: Some("2031-05-04T03:02:01.123Z".to_owned()),
        differs: false,
        unkillable: Vec::new(),
        turn: None,
        off_lease: false,
        foreign: false,
    }
}

fn status(queue: Vec<CandidateStatus>) -> ElectionStatus {
    ElectionStatus {
        election: Prefix::new("/backup"),
        leader: queue.first().cloned(),
        queue,
        blocked_by: Vec::new(),
        paused: false,
        pause: None,
        schedule: None,
        prefer: Vec::new(),
        waits: None,
        last_term: None,
        unreadable: Vec::new(),
        marker: None,
        revision: Revision::new(99),
    }
}

#[test]
fn the_table_marks_the_leader_and_keeps_the_order() {
    let go = CandidateStatus {
        lease_remaining_s: None,
        host: None,
        since: None,
        ..candidate(1, "from go", 31)
    };
    let text = table(&status(vec![candidate(0, "a", 7), go]), Look::default());
    let expected = "\
election  /backup
leader    a, token 7

   #  NAME     TOKEN  LEASE             LEFT        HOST   SINCE
*  0  a        7      32696bd0d159d06e  12s of 15s  alpha  2031-05-04T03:02:01Z
   1  from go  31     32696bd0d159d086  -           -      -
";
    assert_eq!(text, expected);
}

#[test]
fn a_narrow_terminal_cuts_names_and_hosts() {
    let long = "a-candidate-with-a-name-of-its-own.example.org";
    let mut queue = vec![candidate(0, long, 7), candidate(1, "b", 8)];
    queue[1].host = Some("a-host-with-a-long-name.example.org".to_owned());
    let text = table(&status(queue.clone()), wide(80));
    assert!(fits(&text, 80), "{text}");
    assert!(text.contains("a-can") && text.contains('…'), "{text}");
    assert!(text.contains("32696bd0d159d06e"), "{text}");
    assert!(text.contains("SINCE"), "{text}");
    // Narrower still, what is needed least is left out.
    for (width, gone) in [(61, "LEASE"), (53, "HOST"), (41, "LEFT"), (20, "SINCE")] {
        let text = table(&status(queue.clone()), wide(width));
        assert!(fits(&text, width), "{width}: {text}");
        assert!(!text.contains(gone), "{width}: {text}");
        assert!(text.contains("  #  NAME "), "{width}: {text}");
    }
}

fn wide(width: usize) -> Look {
    Look {
        width: Some(width),
        colour: false,
    }
}

/// Whether the table does, which comes after an empty line.
fn fits(text: &str, width: usize) -> bool {
    let table = text.lines().skip_while(|line| !line.is_empty());
    table
        .map(|line| line.chars().count())
        .all(|used| used <= width)
}

#[test]
fn colours_mark_the_leader_and_what_is_wrong_and_nothing_else() {
    let colour = Look {
        width: None,
        colour: true,
    };
    let mut both = status(vec![candidate(0, "a", 7), candidate(1, "b", 8)]);
    both.blocked_by = vec!["/backup/x".to_owned()];
    let text = table(&both, colour);
    for (line, code) in text.lines().zip(["", "1;32", "1;31", "", "", "1;32", ""]) {
        let expected = match code {
            "" => !line.contains('\u{1b}'),
            code => line.starts_with(&format!("\u{1b}[{code}m")) && line.ends_with("\u{1b}[0m"),
        };
        assert!(expected, "{code}: {line:?}");
    }
    both.leader = None;
    assert!(table(&both, colour).contains("\u{1b}[1;31mleader    nobody"));
    both.paused = true;
    let text = table(&both, colour);
    assert!(text.contains("\u{1b}[33mleader    nobody"), "{text:?}");
    assert!(text.contains("\u{1b}[33mPAUSED "), "{text:?}");
}

#[test]
fn who_should_lead_is_said_and_why_another_does() {
    let both = || status(vec![candidate(0, "a", 7), candidate(1, "b", 8)]);
    let told = |prefer: &[&str]| {
        let prefer: Vec<String> = prefer.iter().map(|name| (*name).to_owned()).collect();
        let text = table(&both().with_preference(&prefer), Look::default());
        let line = text.lines().find(|line| line.starts_with("prefers "));
        line.unwrap_or_default().to_owned()
    };
    assert_eq!(told(&[]), "");
    assert_eq!(
        told(&["b", "a"]),
        "prefers   b, a: b waits, and is handed the term when the job ends; step-down does it now"
    );
    let first = "the first of them that stands leads";
    assert_eq!(told(&["c", "a"]), format!("prefers   c, a: {first}"));
    assert_eq!(told(&["c"]), "prefers   c: none of them stands");
}

#[test]
fn the_rank_of_the_leader_is_said_and_why_one_before_it_does_not_lead() {
    let told = |ranks: &[Option<u32>]| {
        let queue = ranks.iter().zip(0..).map(|(rank, position)| {
            let turn = rank.map(|rank| Turn { rank, hosts: 5 });
            let name = format!("host-{position}");
            CandidateStatus {
                turn,
                ..candidate(position, &name, 7)
            }
        });
        let text = table(&status(queue.collect()), Look::default());
        let line = text.lines().find(|line| line.starts_with("rank "));
        line.unwrap_or_default().to_owned()
    };
    assert_eq!(told(&[None, Some(0)]), "", "it came later");
    let first = "rank      the 1st of 5 hosts in sight at the start";
    assert_eq!(told(&[Some(0), Some(1)]), first);
    let third = "rank      the 3rd of 5 hosts in sight at the start";
    assert_eq!(
        told(&[Some(2), Some(3), Some(1), Some(0)]),
        format!("{third}, and joined before host-3, which is the 1st")
    );
    assert_eq!(
        told(&[Some(2), None, Some(4)]),
        format!("{third}; those before it were late, or have left since")
    );
    assert_eq!(ordinal(10), "11th");
    assert_eq!(ordinal(21), "22nd");
}

#[test]
fn a_pause_and_a_block_are_said_aloud() {
    let mut blocked = status(vec![candidate(0, "a", 7)]);
    blocked.leader = None;
    blocked.paused = true;
    blocked.blocked_by = vec!["/backup/x\u{1b}[2J".to_owned()];
    let text = table(&blocked, Look::default());
    assert!(text.contains("leader    nobody\n"), "{text}");
    assert!(text.contains("PAUSED "), "{text}");
    assert!(text.contains("BLOCKED   by /backup/x\\u{1b}[2J,"), "{text}");
    assert!(!text.contains('*'), "{text}");
}

#[test]
fn nobody_is_told_to_delete_the_keys_of_an_election_below() {
    let mut above = status(Vec::new());
    above.blocked_by = vec![
        "/backup/a/32696bd0d159d06e".to_owned(),
        "/backup/b.meta/members/32696bd0d159d06e".to_owned(),
        "/backup/a/x".to_owned(),
    ];
    let text = table(&above, Look::default());
    let of = |election: &str| format!("which is of the election {election}: none can stand");
    let lines: Vec<&str> = text.lines().skip(2).collect();
    assert!(lines[0].contains(&of("/backup/a")), "{text}");
    assert!(lines[1].contains(&of("/backup/b")), "{text}");
    assert!(lines[2].contains("delete it"), "{text}");
}

#[test]
fn a_job_that_can_not_be_killed_is_said_aloud_whatever_it_is_called() {
    let mut waiter = candidate(1, "b", 8);
    waiter.unkillable = vec![Unkillable {
        pid: 17,
        user: "root".to_owned(),
        command: "a\u{1b}[2J\nb".to_owned(),
    }];
    let text = table(&status(vec![candidate(0, "a", 7), waiter]), Look::default());
    let line = text
        .lines()
        .find(|line| line.starts_with("STUCK     b on alpha: "));
    let expected = ": 17 (root, a\\u{1b}[2J\\nb)";
    assert!(line.is_some_and(|line| line.ends_with(expected)), "{text}");
}

#[test]
fn a_schedule_tells_the_next_run_the_open_one_and_the_last() {
    let slot = |text: &str| text.parse::<crate::schedule::Slot>().unwrap();
    let time = |text: &str| text.parse::<crate::wall::Time>().unwrap();
    let pace = crate::schedule::Pace::Cron(vec!["30 2 * * *".to_owned()]);
    let schedule = crate::schedule::Schedule::new(&pace, "Europe/Berlin").unwrap();
    let mut state = State::new(schedule.spec().to_owned(), time("2027-03-01T00:00:00Z"));
    state.slot = Some(slot("2027-03-27T01:30:00Z"));
    let open = |token| Open {
        slot: Occasion::Slot(slot("2027-03-27T01:30:00Z")),
        attempt: 2,
        token: Token::new(token),
        nonce: String::new(),
        host: "alpha".to_owned(),
        at: time("2027-03-27T01:30:00.013Z"),
        missed: 0,
    };
    state.open = Some(open(7));
    let exit = Some(Exit::Code(1));
    let (mut state, _) = state
        .closed(Outcome::Failure, exit, Duration::from_secs(90))
        .unwrap();
    state.open = Some(open(9));
    state.failures = 3;
    let now = time("2027-03-27T12:00:00Z");
    let mut status = status(Vec::new());
    status.schedule = Some(ScheduleStatus::of(&state));
    let text = table(&status.with_schedule(Some(&schedule), now), Look::default());
    assert_eq!(
        text,
        "election  /backup\n\
         leader    nobody\n\
         schedule  at 02:30 every day, Europe/Berlin\n\
         next run  2027-03-28T03:00:00+02:00, which is 2027-03-28T01:00:00Z\n\
         open run  2027-03-27T01:30:00Z, attempt 2, by alpha since 2027-03-27T01:30:00Z\n\
         last run  2027-03-27T01:30:00Z: failure after 1m 30s, by alpha\n\
         success   none\n\
         FAILS     3 slots in a row failed\n"
    );
}

#[test]
fn nobody_there_is_no_table() {
    let text = table(&status(Vec::new()), Look::default());
    assert_eq!(text, "election  /backup\nleader    nobody\n");
}
