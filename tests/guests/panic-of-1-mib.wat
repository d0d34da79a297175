;; Says farewell at length.
;; expect: aaaaaaaa
(func $on_null (param $row i32)
  (drop (memory.grow (i32.const 20)))
  (memory.fill (i32.const 65536) (i32.const 97) (i32.const 1048576))
  (call $log (i32.const 4) (i32.const 65536) (i32.const 1048576))
  (unreachable))
