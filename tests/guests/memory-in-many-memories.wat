;; Has four memories, each well within the limit, and all of them together over it.
;; expect: wanted more memory than the 4MiB of rule.guest.memory
(memory $second 1)
(memory $third 1)
(memory $fourth 1)
(func $on_null (param $row i32)
  (memory.grow $second (i32.const 30))
  (memory.grow $third (i32.const 30))
  (memory.grow $fourth (i32.const 30))
  (i32.store8 $second (i32.const 1900000) (i32.const 1))
  drop drop drop)
