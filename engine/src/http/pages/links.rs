//! Where a value leads: to the calls that have it, to its call, to its run. So one goes from a user to a session, a thread, a run and a call.
//!
//! Deliberately absent: what is found there, and the language itself, which is the index's.

use super::html::escaped;
use crate::message::address;
use index::{Key, QUERY_MAX_BYTES, Row, Text, label_term, term};

/// Labels of links up to here are shown whole: ids as programs make them.
const LABEL_WHOLE_BYTES: usize = 64;

/// A search as links to others like it repeat it.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Search {
    pub query: String,
    /// As the link has them: a time, or a length of time before now; empty for none.
    pub since: String,
    pub until: String,
    pub order: String,
}

impl Search {
    /// Everything of an environment.
    pub fn of_environment(environment: &str) -> Self {
        Self::default().narrowed_to(&Key::Text(Text::Environment), environment)
    }

    /// Its address; `further` are parameters of this page alone.
    pub fn path(&self, further: &[(&str, &str)]) -> String {
        let own = [("where", self.query.as_str()), ("since", &self.since), ("until", &self.until), ("order", &self.order)];
        let given = own.into_iter().chain(further.iter().copied()).filter(|(_, value)| !value.is_empty());
        let parameters = url::form_urlencoded::Serializer::new(String::new()).extend_pairs(given).finish();
        if parameters.is_empty() { "/search".to_owned() } else { format!("/search?{parameters}") }
    }

    /// The same with one more term; without its own where both together are too long for a query.
    pub fn narrowed(&self, term: &str) -> Self {
        let has = format!(" {} ", self.query).contains(&format!(" {term} "));
        let query = match self.query.trim() {
            "" => term.to_owned(),
            own if has => own.to_owned(),
            own if own.len() + 1 + term.len() > QUERY_MAX_BYTES => term.to_owned(),
            own => format!("{own} {term}"),
        };
        Self { query, ..self.clone() }
    }

    /// The same, of the calls that have this value, or of those that have none where it is empty; of a value that is too long for a query, its beginning.
    pub fn narrowed_to(&self, key: &Key, value: &str) -> Self {
        let whole = term(key, &[value]).filter(|term| term.len() <= QUERY_MAX_BYTES);
        self.narrowed(&whole.or_else(|| label_term(key, value)).unwrap_or_default())
    }

    /// The same of a label as sums have it, which may have been cut.
    pub fn narrowed_to_label(&self, key: &Key, label: &str) -> Self {
        self.narrowed(&label_term(key, label).unwrap_or_default())
    }

    /// A value as a link to the calls among these that have it; a dash where there is none.
    pub fn value(&self, key: &Key, value: &str) -> String {
        self.value_as(key, value, value)
    }

    /// The same under another label.
    pub fn value_as(&self, key: &Key, value: &str, label: &str) -> String {
        if value.is_empty() {
            return "–".to_owned();
        }
        linked(&self.narrowed_to(key, value).path(&[]), label)
    }
}

/// A link whose label is clipped where it is long, so that no sender fills the page; the pointer shows all of it.
pub(super) fn linked(path: &str, label: &str) -> String {
    let (path, shown) = (escaped(path), escaped(label));
    if label.len() <= LABEL_WHOLE_BYTES {
        return format!("<a href='{path}'>{shown}</a>");
    }
    format!("<a class=clipped title='{shown}' href='{path}'>{shown}</a>")
}

/// The page of the call at this sequence.
pub(super) fn call(sequence: u64, label: &str) -> String {
    format!("<a href='/calls/{sequence}'>{}</a>", escaped(label))
}

/// The page of a run.
pub(super) fn run(environment: &str, event_id: &str, label: &str) -> String {
    linked(&run_path(environment, event_id), label)
}

/// Its address, which needs no further escaping.
pub(super) fn run_path(environment: &str, event_id: &str) -> String {
    address::run(environment, event_id)
}

/// The run of a call, or a dash where it names none.
pub(super) fn run_of(row: &Row) -> String {
    let event_id = row.text(Text::EventId);
    if event_id.is_empty() { "–".to_owned() } else { run(row.text(Text::Environment), event_id, event_id) }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_search_is_narrowed_once_by_each_value() {
        let search = Search { query: "stage:extraction".into(), since: "1h".into(), ..Search::default() };
        let user = search.narrowed_to(&Key::Text(Text::User), "u_1");
        assert_eq!(user.path(&[]), "/search?where=stage%3Aextraction+user_id%3Au_1&since=1h");
        assert_eq!(user.narrowed("user_id:u_1"), user);
        let blank = search.narrowed_to(&Key::Text(Text::User), "two words");
        assert_eq!((blank.narrowed_to(&Key::Text(Text::User), "two words"), blank.query.matches("two words").count()), (blank.clone(), 1));
        let long = Search { query: format!("id:{}", "x".repeat(QUERY_MAX_BYTES - 5)), ..Search::default() };
        assert_eq!(long.narrowed("user_id:u_1").query, "user_id:u_1", "what would be too long for a query begins anew");
        assert_eq!(search.narrowed_to(&Key::Text(Text::User), "").query, "stage:extraction -has:user_id");
    }

    #[test]
    fn a_long_value_is_clipped_and_its_link_is_a_query() {
        let long = "日".repeat(5_000);
        let link = Search::default().value(&Key::Text(Text::User), &long);
        assert!(link.starts_with(&format!("<a class=clipped title='{long}' href='/search?where=user_id%3A%22")), "{link}");
        let narrowed = Search::default().narrowed_to(&Key::Text(Text::User), &long).query;
        assert_eq!(narrowed, format!("user_id:\"{}\"*", "日".repeat(66)));
        let exact = Search::default().narrowed_to(&Key::Text(Text::User), &long[..900]).query;
        assert_eq!(exact, format!("user_id:{}", &long[..900]), "what fits in a query is asked for whole");
        assert!(Search::default().narrowed_to_label(&Key::Text(Text::User), &long[..198]).query.ends_with("\"*"));
        assert!(!Search::default().value(&Key::Text(Text::User), "u_1").contains("class"));
    }

    #[test]
    fn a_run_is_named_in_its_address_whatever_its_name() {
        assert_eq!(run("a b", "x/y?'<", "r"), "<a href='/runs/x%2Fy%3F%27%3C?environment=a+b'>r</a>");
    }
}
