;; Writes a text that is a little larger than all it may hand over.
;; expect: handed over more than the 1MiB of rule.guest.result
;; limit: result 1048576
(func $on_null (param $row i32)
  (drop (memory.grow (i32.const 20)))
  (memory.fill (global.get $scratch) (i32.const 97) (i32.const 1048577))
  (call $write (local.get $row) (i32.const 4) (i32.const 1048577) (i32.const 1048577)))
