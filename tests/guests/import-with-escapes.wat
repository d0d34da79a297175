;; Imports what has no name but an address, and that would clear a terminal, begin a line of the log, and turn its direction.
;; where: start
;; expect: it imports `url=<\u{1b}[2J\r\n2026-01-01T00:00:00Z ERROR weir: all is lost \u{61c}\u{202e}\u{2028}\u{9b}\u{7}>`, and a rule
(component
  (import "url=<\1b[2J\r\n2026-01-01T00:00:00Z ERROR weir: all is lost \u{61c}\u{202e}\u{2028}\u{9b}\07>" (instance)))
