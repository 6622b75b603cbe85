//! What people see on a terminal: colours, and lines that fit.

use crate::common::*;

/// `incumbent …` for this cluster, as on a terminal that knows colours.
fn on_a_terminal(cluster: &Cluster, arguments: &[&str]) -> crate::common::command::Typed {
    let typed = cluster.incumbent(arguments).env("TERM", "xterm-256color");
    typed.without("NO_COLOR")
}

#[test]
fn status_on_a_terminal_is_coloured_unless_no_color_is_set_and_fits() {
    let scene = Scene::start(1);
    let name = "a-candidate-with-a-name-of-its-own.example.org";
    let (_a, token) = scene.leader(scene.daemon(name));
    scene.cluster.put("/election/stray", "x");
    let status = || on_a_terminal(&scene.cluster, &["status"]);

    let coloured = shown(status().into_command(), 200);
    let leader = format!("\n\u{1b}[1;32mleader    {name}, token {token}\u{1b}[0m\n");
    assert!(coloured.contains(&leader), "{coloured}");
    assert!(coloured.contains("\n\u{1b}[1;31mBLOCKED "), "{coloured}");
    assert!(coloured.contains("\n\u{1b}[1;32m*  0  "), "{coloured}");

    for (variable, value) in [("NO_COLOR", "1"), ("TERM", "dumb")] {
        let plain = shown(status().env(variable, value).into_command(), 200);
        assert!(!plain.contains('\u{1b}'), "{variable}: {plain}");
        assert!(plain.contains(name), "{variable}: {plain}");
    }
    // An empty one doesn't count.
    let coloured = shown(status().env("NO_COLOR", "").into_command(), 200);
    assert!(coloured.contains("\u{1b}[1;32m"), "{coloured}");
    assert!(!status().text().contains('\u{1b}'));

    for columns in [80, 50] {
        let command = status().env("NO_COLOR", "1").into_command();
        let text = shown(command, columns);
        let table: Vec<_> = text.lines().skip_while(|line| !line.is_empty()).collect();
        assert_eq!(table.len(), 3, "{text}");
        for line in table {
            assert!(line.chars().count() <= usize::from(columns), "{text}");
        }
    }
}

#[test]
fn logs_on_a_terminal_colour_the_level_unless_no_color_is_set() {
    let cluster = Cluster::start(1);
    let exec =
        || on_a_terminal(&cluster, &["exec", "--", "true"]).env("INCUMBENT__LOG__FILTER", "info");
    let coloured = shown(exec().into_command(), 200);
    assert!(
        coloured.contains("\u{1b}[32mINFO\u{1b}[0m elected "),
        "{coloured}"
    );
    let plain = shown(exec().env("NO_COLOR", "1").into_command(), 200);
    // The line that shows the progress is taken away again, which is no colour.
    assert!(!plain.contains("\u{1b}[3"), "{plain}");
    assert!(plain.contains(" INFO elected "), "{plain}");
}

#[test]
fn check_marks_its_warnings_on_a_terminal() {
    let sandbox = Sandbox::new();
    let check = || sandbox.incumbent(&["check"]).env("TERM", "xterm");
    let coloured = shown(check().without("NO_COLOR").into_command(), 200);
    assert!(
        coloured.contains("\n\u{1b}[1;31mwarning: job.command: "),
        "{coloured}"
    );
    assert_eq!(coloured.matches('\u{1b}').count(), 2, "{coloured}");
    assert!(!check().text().contains('\u{1b}'));
}

#[test]
fn values_on_a_terminal_are_printable_and_elsewhere_as_they_are() {
    let cluster = Cluster::start(1);
    cluster.put("/evil", "a\u{1b}[2J\u{9b}31m\u{202e}b");
    let get = || cluster.incumbent(&["kv", "get", "/evil"]);
    let shown = shown(get().into_command(), 200);
    assert!(
        shown.contains("a\\u{1b}[2J\\u{9b}31m\\u{202e}b"),
        "{shown:?}"
    );
    assert!(!shown.contains('\u{1b}'), "{shown:?}");
    assert_eq!(get().text(), "/evil\na\u{1b}[2J\u{9b}31m\u{202e}b\n");
}
