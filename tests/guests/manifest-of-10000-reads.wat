;; Wants to read ten thousand members.
;; where: start
;; expect: its reads are 10000, and at most 64 are allowed
(func $on_configure
  (drop (memory.grow (i32.const 4)))
  (call $pair (i32.const 1052) (i32.const 65536) (i32.const 10000))
  (memory.fill (i32.const 65536) (i32.const 0) (i32.const 80000)))
