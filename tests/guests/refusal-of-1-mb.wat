;; Refuses its configuration in a million bytes, each of which would take six in the log.
;; where: start
;; expect: it refuses its configuration: \u{1b}
(func $on_configure
  (drop (memory.grow (i32.const 16)))
  (memory.fill (i32.const 65536) (i32.const 27) (i32.const 1000000))
  (i32.store8 (i32.const 1024) (i32.const 1))
  (call $pair (i32.const 1028) (i32.const 65536) (i32.const 1000000)))
