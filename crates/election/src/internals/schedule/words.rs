//! Patterns in words, for whoever checks whether it is what was meant.

/// Days of the week, as patterns number them.
const DAYS: [&str; 8] = [
    "Sunday",
    "Monday",
    "Tuesday",
    "Wednesday",
    "Thursday",
    "Friday",
    "Saturday",
    "Sunday",
];

/// So many times of day are told one by one.
const TIMES: usize = 6;

/// A pattern in words, from its fields, and the seconds, minutes and hours they name. What is not
/// common enough to be told well here is told by `rest`.
pub(super) fn of_pattern(
    fields: &[String; 6],
    [seconds, minutes, hours]: [Vec<u16>; 3],
    rest: impl Fn() -> String,
) -> String {
    let told = of_times(fields, &seconds, &minutes, &hours)
        .and_then(|times| Some((times, of_days(&fields[3], &fields[4], &fields[5])?)));
    match told {
        Some((times, days)) if times.starts_with("every") && days == "every day" => times,
        Some((times, days)) => format!("{times} {days}"),
        None => {
            let told = lower_first(&rest());
            let every = told.strip_prefix("at every ");
            every.map_or(told.clone(), |rest| format!("every {rest}"))
        }
    }
}

fn lower_first(text: &str) -> String {
    let mut letters = text.chars();
    let first = letters.next().map(|first| first.to_ascii_lowercase());
    first.into_iter().chain(letters).collect()
}

fn of_times(
    fields: &[String; 6],
    seconds: &[u16],
    minutes: &[u16],
    hours: &[u16],
) -> Option<String> {
    let &[second] = seconds else {
        return None;
    };
    let past = match second {
        0 => String::new(),
        second => format!(":{second:02}"),
    };
    let (minute, hour) = (&*fields[1], &*fields[2]);
    if hour == "*" && second == 0 {
        if minute == "*" {
            return Some("every minute".to_owned());
        }
        if let Some(step) = even_step(minute, 60) {
            return Some(format!("every {step} minutes"));
        }
        if minute == "0" {
            return Some("every hour".to_owned());
        }
        if let [minute] = minutes {
            return Some(format!("every hour at minute {minute}"));
        }
    }
    if let (Some(step), [minute], 0) = (even_step(hour, 24), minutes, second) {
        return Some(match minute {
            0 => format!("every {step} hours from midnight"),
            minute => format!("every {step} hours from 00:{minute:02}"),
        });
    }
    if hour == "*" || minute == "*" || minutes.len() * hours.len() > TIMES {
        return None;
    }
    let mut times = Vec::new();
    for hour in hours {
        for minute in minutes {
            times.push(format!("{hour:02}:{minute:02}{past}"));
        }
    }
    Some(format!("at {}", list(&times)))
}

/// The step of `*/15`, if it goes evenly into the whole.
fn even_step(field: &str, whole: u32) -> Option<u32> {
    let step: u32 = field.strip_prefix("*/")?.parse().ok()?;
    (step > 1 && whole.is_multiple_of(step)).then_some(step)
}

fn of_days(day: &str, month: &str, weekday: &str) -> Option<String> {
    let all = |field: &str| field == "*" || field == "?";
    if !all(month) {
        return None;
    }
    match (all(day), all(weekday)) {
        (true, true) => Some("every day".to_owned()),
        (false, true) => {
            let days: Vec<String> = day
                .split(',')
                .map(|day| day.parse::<u8>().ok().map(|day| day.to_string()))
                .collect::<Option<_>>()?;
            let word = if days.len() == 1 { "day" } else { "days" };
            Some(format!("on {word} {} of every month", list(&days)))
        }
        (true, false) => of_weekdays(weekday),
        (false, false) => None,
    }
}

fn of_weekdays(field: &str) -> Option<String> {
    if let Some((first, last)) = field.split_once('-') {
        return Some(format!("from {} to {}", weekday(first)?, weekday(last)?));
    }
    let days: Vec<String> = field
        .split(',')
        .map(|day| weekday(day).map(str::to_owned))
        .collect::<Option<_>>()?;
    Some(format!("every {}", list(&days)))
}

fn weekday(name: &str) -> Option<&'static str> {
    if let Ok(number) = name.parse::<usize>() {
        return DAYS.get(number).copied();
    }
    let short = |day: &&&str| day[..3].eq_ignore_ascii_case(name);
    DAYS.iter().find(short).copied()
}

/// `a`, `a and b`, `a, b and c`.
pub(super) fn list(items: &[String]) -> String {
    match items {
        [] => String::new(),
        [one] => one.clone(),
        [all @ .., last] => format!("{} and {last}", all.join(", ")),
    }
}
