;; Takes memory until there is none.
;; expect: wanted more memory than the 4MiB of rule.guest.memory
(func $on_null (param $row i32) (loop $ever (drop (memory.grow (i32.const 16))) (br $ever)))
