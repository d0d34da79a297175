;; Refuses its configuration in words that would clear a terminal.
;; where: start
;; expect: it refuses its configuration: \u{1b}[2J\nall is well
(data (i32.const 24576) "\1b[2J\0aall is well")
(func $on_configure
  (i32.store8 (i32.const 1024) (i32.const 1))
  (call $pair (i32.const 1028) (global.get $scratch) (i32.const 16)))
