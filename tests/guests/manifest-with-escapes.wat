;; Has a name that would clear a terminal.
;; where: start
;; expect: its name `\u{1b}uest` must be
(func $on_configure (i32.store8 (i32.const 1104) (i32.const 27)))
