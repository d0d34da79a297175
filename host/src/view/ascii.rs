//! The view for terminals that do not use UTF-8: each character beyond ASCII is replaced by one that looks like it.

use std::env;

use ratatui::buffer::Buffer;

/// Returns whether the locale names another encoding than UTF-8. If it names none, as in most containers, UTF-8 is assumed.
pub(super) fn is_wanted() -> bool {
    let variable = |name| env::var(name).ok().filter(|value| !value.is_empty());
    let locale = ["LC_ALL", "LC_CTYPE", "LANG"].into_iter().find_map(variable);
    locale.is_some_and(|locale| !is_utf8(&locale))
}

fn is_utf8(locale: &str) -> bool {
    let locale = locale.to_ascii_lowercase();
    locale.contains("utf-8") || locale.contains("utf8")
}

/// Replaces all characters beyond ASCII.
pub(super) fn reduce(buffer: &mut Buffer) {
    for cell in &mut buffer.content {
        if !cell.symbol().is_ascii() {
            let symbol = alike(cell.symbol());
            cell.set_symbol(symbol);
        }
    }
}

fn alike(symbol: &str) -> &'static str {
    match symbol {
        "─" => "-",
        "│" => "|",
        "╭" | "╮" | "╰" | "╯" => "+",
        "█" | "▇" | "▆" => "#",
        "▅" | "▄" | "▃" => "=",
        "▂" | "▁" => "_",
        "→" => ">",
        "…" => "~",
        _ => "?",
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_locale_tells_whether_it_is_utf8() {
        assert!(is_utf8("de_DE.UTF-8") && is_utf8("C.utf8"));
        assert!(!is_utf8("C") && !is_utf8("POSIX") && !is_utf8("de_DE.ISO-8859-1"));
    }

    #[test]
    fn nothing_beyond_ascii_is_left() {
        let mut buffer = Buffer::with_lines(["╭ a → b ─╮", "│█▂…日本  │"]);
        reduce(&mut buffer);
        let text: String = buffer.content.iter().map(ratatui::buffer::Cell::symbol).collect();
        assert!(text.is_ascii() && text.starts_with("+ a > b -+"), "{text}");
    }
}
