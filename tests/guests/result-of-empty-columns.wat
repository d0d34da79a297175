;; Answers with a hundred thousand empty columns: 24 bytes each in the guest, some more in the host.
;; expect: answered with 100000 columns
(func $on_null (param $row i32)
  (drop (memory.grow (i32.sub (i32.const 60) (memory.size))))
  (memory.fill (i32.const 65536) (i32.const 0) (i32.const 2400000))
  (call $pair (i32.const 8) (i32.const 65536) (i32.const 100000)))
