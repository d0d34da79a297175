;; Describes itself in ten million bytes.
;; where: start
;; expect: its description must be at most 1024 printable bytes
;; limit: memory 16777216
(func $on_configure
  (drop (memory.grow (i32.const 160)))
  (memory.fill (i32.const 65536) (i32.const 97) (i32.const 10000000))
  (call $pair (i32.const 1044) (i32.const 65536) (i32.const 10000000)))
