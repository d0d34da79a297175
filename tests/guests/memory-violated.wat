;; Takes one page of memory more than it may have.
;; expect: wanted more memory than the 4MiB of rule.guest.memory
(func $on_null (param $row i32) (drop (memory.grow (i32.sub (i32.const 65) (memory.size)))))
