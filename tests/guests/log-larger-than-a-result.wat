;; Logs a line that is larger than all that a call may hand over.
;; expect: handed over more than the 1MiB of rule.guest.result
;; limit: result 1048576
(func $on_null (param $row i32)
  (drop (memory.grow (i32.const 20)))
  (memory.fill (i32.const 65536) (i32.const 97) (i32.const 1048577))
  (call $log (i32.const 3) (i32.const 65536) (i32.const 1048577)))
