//! A disk drawn as a bar, with every partition's name below it. Pure.

use unicode_width::UnicodeWidthStr;

/// What a part of the disk is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Fill {
    Free,
    Kept,
    Grown,
    New,
}

/// A part of the disk, from left to right.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Span {
    /// Empty for free space.
    pub(crate) label: String,
    /// Bytes.
    pub(crate) size: u64,
    pub(crate) fill: Fill,
}

impl Fill {
    const fn glyph(self) -> char {
        match self {
            Self::Free => '░',
            Self::Kept => '▒',
            Self::Grown => '▓',
            Self::New => '█',
        }
    }
}

/// Draws a disk as a bar of `width` columns, with labels below unless `labels` is off.
pub(crate) fn draw(spans: &[Span], width: usize, labels: bool) -> String {
    let cells = share(spans, width);
    let mut bar = String::new();
    let mut marks = Vec::new();
    let mut column = 0;
    let mut previous = None;
    for (span, count) in spans.iter().zip(&cells) {
        let glyph = edge(span.fill, previous);
        bar.extend(std::iter::repeat_n(glyph, *count));
        if !span.label.is_empty() && *count > 0 {
            marks.push((column, span.label.as_str()));
        }
        previous = (span.fill != Fill::Free && *count > 0).then_some(glyph);
        column += count;
    }
    bar.push('\n');
    if labels {
        for index in (0..marks.len()).rev() {
            bar.push_str(&label_line(&marks, index, width));
            bar.push('\n');
        }
    }
    bar
}

/// Neighbours of one fill are told apart by a second glyph.
fn edge(fill: Fill, previous: Option<char>) -> char {
    let glyph = fill.glyph();
    if fill == Fill::Free || previous != Some(glyph) {
        return glyph;
    }
    match fill {
        Fill::New => '▇',
        Fill::Grown => '▆',
        Fill::Kept | Fill::Free => '▚',
    }
}

/// How many columns each span gets: by its size, but every partition at least one.
fn share(spans: &[Span], width: usize) -> Vec<usize> {
    let total: u128 = spans.iter().map(|span| u128::from(span.size)).sum();
    let least = |span: &Span| usize::from(span.fill != Fill::Free && span.size > 0);
    let floor: usize = spans.iter().map(least).sum();
    let elastic = u128::try_from(width.saturating_sub(floor)).unwrap_or(0);
    let mut passed: u128 = 0;
    let mut given: u128 = 0;
    spans
        .iter()
        .map(|span| {
            passed += u128::from(span.size);
            // Rounding the running sum keeps the whole at exactly `width`.
            let upto = (passed * elastic).checked_div(total).unwrap_or(0);
            let extra = usize::try_from(upto - given).unwrap_or(0);
            given = upto;
            least(span) + extra
        })
        .collect()
}

fn label_line(marks: &[(usize, &str)], index: usize, width: usize) -> String {
    let (at, label) = marks[index];
    let mut line: Vec<char> = vec![' '; at];
    for (column, _) in &marks[..index] {
        line[*column] = '│';
    }
    let text: String = line.into_iter().collect();
    if at + 3 + label.width() <= width || at < label.width() + 2 {
        return format!("{text}└─ {label}");
    }
    // No room on the right: the name goes to the left of its mark, over whatever runs down there.
    let start = at - label.width() - 2;
    let left: String = text.chars().take(start).collect();
    format!("{left}{label} ─┘")
}

#[cfg(test)]
mod tests {
    use super::*;

    fn span(label: &str, size: u64, fill: Fill) -> Span {
        Span {
            label: label.to_owned(),
            size,
            fill,
        }
    }

    #[test]
    fn every_partition_is_seen_and_the_bar_is_full() {
        let spans = [
            span("esp", 1, Fill::Kept),
            span("root", 1_000_000, Fill::Grown),
            span("tiny", 1, Fill::New),
            span("tiny2", 1, Fill::New),
            span("", 500_000, Fill::Free),
        ];
        let drawn = draw(&spans, 40, true);
        let lines: Vec<_> = drawn.lines().collect();
        assert_eq!(lines[0].chars().count(), 40);
        for glyph in ['▒', '▓', '█', '▇', '░'] {
            assert!(lines[0].contains(glyph), "{glyph} in {drawn}");
        }
        assert_eq!(lines.len(), 5);
        assert_eq!(lines[4], "└─ esp");
        assert_eq!(lines[3], "│└─ root");
    }

    #[test]
    fn names_at_the_right_edge_turn_left() {
        let spans = [
            span("a", 95, Fill::New),
            span("long-name.conf", 5, Fill::New),
        ];
        let drawn = draw(&spans, 40, true);
        assert!(drawn.contains("long-name.conf ─┘"), "{drawn}");
        assert!(
            drawn.lines().all(|line| line.chars().count() <= 40),
            "{drawn}"
        );
    }

    #[test]
    fn nothing_is_drawn_without_width_or_size() {
        assert_eq!(draw(&[], 40, true), "\n");
        assert_eq!(draw(&[span("", 0, Fill::Free)], 40, true), "\n");
    }
}
