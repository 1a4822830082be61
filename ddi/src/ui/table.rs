//! Tables of text: columns as wide as their widest cell, one space between.

use comfy_table::{CellAlignment, ColumnConstraint, Table};

/// Where a column's text stands.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Align {
    Left,
    Right,
}

/// Draws rows under a header (unless that is empty).
pub(crate) fn draw(header: &[&str], rows: &[Vec<String>], align: &[Align]) -> String {
    let mut table = Table::new();
    table.load_preset(comfy_table::presets::NOTHING);
    if !header.is_empty() {
        table.set_header(header);
    }
    table.add_rows(rows);
    for (index, column) in table.column_iter_mut().enumerate() {
        column.set_padding((0, 1));
        column.set_constraint(ColumnConstraint::ContentWidth);
        if align.get(index) == Some(&Align::Right) {
            column.set_cell_alignment(CellAlignment::Right);
        }
    }
    let mut text = String::new();
    for line in table.lines() {
        text.push_str(line.trim_end());
        text.push('\n');
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn columns_line_up() {
        let rows = vec![
            vec!["esp".to_owned(), "10M".to_owned()],
            vec!["root".into(), "5K".into()],
        ];
        let text = draw(&["TYPE", "SIZE"], &rows, &[Align::Left, Align::Right]);
        assert_eq!(text, "TYPE SIZE\nesp   10M\nroot   5K\n");
        assert_eq!(draw(&[], &rows[..1], &[]), "esp 10M\n");
    }
}
