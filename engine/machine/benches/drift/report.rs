//! What a run prints: tables, and at the end one line per goal.

use std::time::Instant;

/// A table of text, its first column being names.
pub struct Table {
    title: String,
    rows: Vec<(String, Vec<String>)>,
}

impl Table {
    pub fn new(title: &str) -> Self {
        Self { title: title.to_owned(), rows: Vec::new() }
    }

    pub fn head(&mut self, cells: impl IntoIterator<Item = String>) {
        self.rows.push((String::new(), cells.into_iter().collect()));
    }

    pub fn row(&mut self, name: &str, cells: Vec<String>) {
        self.rows.push((name.to_owned(), cells));
    }
}

/// Prints as it goes, and remembers the goals.
pub struct Report {
    begun: Instant,
    targets: Vec<String>,
    missed: usize,
}

impl Report {
    pub fn new() -> Self {
        Self { begun: Instant::now(), targets: Vec::new(), missed: 0 }
    }

    pub fn say(&self, what: &str) {
        println!("[{:.0} s] {what}", self.begun.elapsed().as_secs_f64());
    }

    pub fn table(&self, table: &Table) {
        let columns = table.rows.iter().map(|(_, cells)| cells.len()).max().unwrap_or(0);
        let first = table.rows.iter().map(|(name, _)| name.chars().count()).max().unwrap_or(0);
        let width = |column: usize| table.rows.iter().filter_map(|(_, cells)| cells.get(column)).map(|cell| cell.chars().count()).max().unwrap_or(0);
        let widths: Vec<usize> = (0..columns).map(width).collect();
        println!("\n{}", table.title);
        for (name, cells) in &table.rows {
            let cells: String = cells.iter().zip(&widths).map(|(cell, width)| format!("  {cell:>width$}")).collect();
            println!("  {name:<first$}{cells}");
        }
    }

    /// A goal: `figure` is at most `limit`.
    pub fn target(&mut self, name: &str, figure: f64, limit: f64) {
        let passed = figure <= limit;
        self.missed += usize::from(!passed);
        self.targets.push(format!("target {name} {figure:.2} {limit:.2} {}", if passed { "pass" } else { "fail" }));
    }

    /// Prints the goals. True when all are met.
    pub fn finish(self) -> bool {
        self.say("done");
        println!();
        self.targets.iter().for_each(|target| println!("{target}"));
        self.missed == 0
    }
}
