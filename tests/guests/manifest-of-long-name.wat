;; Has a name of a million bytes.
;; where: start
;; expect: must be 1 to 64 lower-case letters
(func $on_configure
  (drop (memory.grow (i32.const 16)))
  (memory.fill (i32.const 65536) (i32.const 97) (i32.const 1000000))
  (call $pair (i32.const 1028) (i32.const 65536) (i32.const 1000000)))
